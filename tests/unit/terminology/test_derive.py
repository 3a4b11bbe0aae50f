"""scripts/derive_terminology.py on small packages: what is kept, what is believed, and that it can be read back."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from terminology import Local
from terminology.tables import Packaged, write_blocks

SNOMED = "http://snomed.info/sct"


def script() -> ModuleType:
    path = Path(__file__).parents[3] / "scripts" / "derive_terminology.py"
    spec = importlib.util.spec_from_file_location("derive_terminology", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def package(directory: Path, *resources: dict[str, Any]) -> Path:
    directory.mkdir()
    for number, resource in enumerate(resources):
        (directory / f"{resource['resourceType']}-{number}.json").write_text(json.dumps(resource), encoding="utf-8")
    return directory


def snomed_set(url: str) -> dict[str, Any]:
    given = [{"property": "concept", "op": "is-a", "value": "1"}]
    return {"resourceType": "ValueSet", "url": url, "compose": {"include": [{"system": SNOMED, "filter": given}]}}


@pytest.fixture
def derived(tmp_path: Path) -> Local:
    old = {"resourceType": "CodeSystem", "url": "urn:cs", "version": "1", "content": "complete"}
    old["concept"] = [{"code": "a", "display": "A"}]
    new = {**old, "version": "2", "caseSensitive": True, "concept": [{"code": "a"}, {"code": "b"}]}
    whole = {"compose": {"include": [{"system": "urn:cs"}]}}
    few = [{"system": SNOMED, "code": str(code)} for code in range(5)]
    many = [{"system": SNOMED, "code": str(code)} for code in range(1_000)]
    examples = package(
        tmp_path / "examples",
        old,
        {"resourceType": "ValueSet", "url": "urn:vs-r4", **whole},
        snomed_set("urn:few"),
        snomed_set("urn:many"),
    )
    expansions = package(
        tmp_path / "expansions",
        {**snomed_set("urn:few"), "expansion": {"contains": few}},
        {**snomed_set("urn:many"), "expansion": {"contains": many}},
    )
    terminology = package(
        tmp_path / "terminology",
        new,
        {"resourceType": "ValueSet", "url": "urn:vs-tho", **whole},
        {"resourceType": "ValueSet", "url": "urn:vs-r4", "compose": {"include": []}},
        {
            "resourceType": "NamingSystem",
            "uniqueId": [{"type": "oid", "value": "1.2.3"}, {"type": "uri", "value": "http://hl7.org/fhir/sid/x"}],
        },
    )
    module = script()
    module.derive(examples, expansions, terminology, tmp_path / "one")
    module.derive(examples, expansions, terminology, tmp_path / "two")
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
    return Local(None, Packaged(tmp_path / "one"))


def test_each_package_selects_from_its_own_code_systems(derived: Local) -> None:
    assert set(derived.expand("urn:vs-r4")) == {("urn:cs", "a")}
    assert set(derived.expand("urn:vs-tho")) == {("urn:cs", "a"), ("urn:cs", "b")}
    assert derived.display("urn:cs", "a") == "A"


def test_an_official_expansion_stands_in_for_an_absent_system_unless_it_was_cut(derived: Local) -> None:
    assert len(derived.expand("urn:few")) == 5
    with pytest.raises(Exception, match="urn:many"):
        derived.expand("urn:many")


def test_naming_systems_become_aliases(derived: Local) -> None:
    assert derived.alias("urn:oid:1.2.3") == "http://hl7.org/fhir/sid/x"


def test_items_of_all_sizes_are_found_again(tmp_path: Path) -> None:
    items = [json.dumps("x" * size).encode() for size in (1, 2, 90, 3, 200, 4)]
    (places,) = write_blocks(tmp_path, [(100, items)])
    assert len({offset for offset, _, _ in places}) == 4
    assert len(places) == len(items)
