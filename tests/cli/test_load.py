"""`hestia load`: what it reads, what it executes once, what it refuses."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from hestia.composition import connect
from tests.support.command_line import run
from tests.support.resources import bundle, entry


@pytest.fixture
def store(sqlite_uri: str) -> str:
    return sqlite_uri


def load(store: str, *arguments: str | Path, status: int = 0) -> Result:
    return run("load", *arguments, "--store", store, status=status)


def counts(store: str) -> dict[str, int]:
    opened = connect(store, create=False)
    try:
        return opened.counts()
    finally:
        opened.close()


def versions(store: str) -> list[tuple[str, int, str]]:
    opened = connect(store, create=False)
    try:
        return [(one.address, one.version, one.method) for one in opened.scan_versions()]
    finally:
        opened.close()


def patient(id: str | None = None, **more: Any) -> dict[str, Any]:
    return {"resourceType": "Patient", **({"id": id} if id else {}), **more}


def write(name: str, *values: Any) -> Path:
    """Values as a file in the working directory: NDJSON, JSON, XML text or bytes, gzip by its name."""
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    data = b"\n".join(value if isinstance(value, bytes) else json.dumps(value).encode() for value in values)
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


def refusals(result: Result) -> list[dict[str, Any]]:
    name = result.output.rpartition("(see ")[2].partition(")")[0]
    return [json.loads(line) for line in Path(name).read_text().splitlines()]


@pytest.mark.parametrize("ending", [".json", ".json.gz"])
def test_single_resource_with_id_is_put_there(store: str, ending: str) -> None:
    assert "1 resources written." in load(store, write(f"a{ending}", patient("p1"))).output
    assert versions(store) == [("Patient/p1", 1, "PUT")]


def test_single_resource_without_id_is_created_once(store: str) -> None:
    file = write("a.json", patient(gender="female"))
    load(store, file)
    assert "0 resources written, 1 were there already" in load(store, file).output
    assert [(version, method) for _, version, method in versions(store)] == [(1, "POST")]


@pytest.mark.parametrize("name", ["a.ndjson", "a.ndjson.gz", "a.jsonl"])
def test_ndjson_is_read_line_by_line(store: str, name: str) -> None:
    file = write(name, *(patient(f"p{number}") for number in range(250)), b"", patient(gender="male"))
    assert "251 resources written." in load(store, file).output
    assert counts(store) == {"Patient": 251}


def test_xml_is_stored_as_its_json(store: str) -> None:
    text = b'<Patient xmlns="http://hl7.org/fhir"><id value="x"/><gender value="female"/></Patient>'
    load(store, write("a.xml", text), write("b.xml.gz", text.replace(b'"x"', b'"y"')))
    assert [address for address, _, _ in versions(store)] == ["Patient/x", "Patient/y"]


def test_directories_are_searched_and_other_files_left_alone(store: str) -> None:
    write("in/deep/a.json", patient("a"))
    write("in/b.ndjson", patient("b"), patient("c"))
    write("in/README.md", b"# nothing to load")
    assert "3 resources written." in load(store, "in").output


def test_directory_without_loadable_files_says_so(store: str) -> None:
    Path("empty").mkdir()
    assert "There is no .json, .ndjson or .xml file" in load(store, "empty", status=1).output


def test_resources_that_are_present_are_skipped_unless_overwrite(store: str) -> None:
    load(store, write("a.ndjson", patient("p1", gender="male")))
    changed = write("b.ndjson", patient("p1", gender="female"), patient("p2"))
    assert "1 resources written, 1 were there already" in load(store, changed).output
    assert "2 resources written." in load(store, changed, "--overwrite").output
    assert [(address, version) for address, version, _ in versions(store)] == [
        ("Patient/p1", 1), ("Patient/p1", 2), ("Patient/p2", 1), ("Patient/p2", 2),
    ]  # fmt: skip


def test_deleted_resource_is_loaded_again(store: str) -> None:
    load(store, write("a.json", patient("p1")))
    load(store, write("d.json", bundle(entry("DELETE", "Patient/p1"))))
    assert counts(store) == {}
    load(store, "a.json")
    assert counts(store) == {"Patient": 1}


def test_first_of_two_lines_with_one_id_stays_as_if_loaded_one_by_one(store: str) -> None:
    file = write("a.ndjson", patient("p1", gender="male"), patient("p1", gender="female"))
    assert "1 resources written, 1 were there already" in load(store, file).output
    opened = connect(store, create=False)
    stored = opened.read("Patient", "p1")
    opened.close()
    assert stored is not None
    assert stored.body is not None
    assert json.loads(gzip.decompress(stored.body))["gender"] == "male"


def test_transaction_is_executed_once_and_rewrites_its_references(store: str) -> None:
    urn = "urn:uuid:61ebe359-bfdc-4613-8bf2-c5e300945f0a"
    file = write(
        "t.json",
        bundle(
            entry("POST", "Patient", patient(), urn),
            entry("POST", "Observation", {
                "resourceType": "Observation", "status": "final", "code": {"text": "x"}, "subject": {"reference": urn},
            }),
        ),
    )  # fmt: skip
    load(store, file)
    again = load(store, file).output
    assert "0 resources written, 2 were there already, 1 Bundles had been executed before" in again
    assert counts(store) == {"Observation": 1, "Patient": 1}


def test_transaction_is_refused_whole_and_later_files_still_load(store: str) -> None:
    bad = write("a.json", bundle(entry("POST", "Patient", patient()), entry("POST", "Patient", patient(gender="?"))))
    result = load(store, bad, write("b.json", patient("p1")), status=3)
    assert counts(store) == {"Patient": 1}
    (refused,) = refusals(result)
    assert refused["source"] == "a.json"
    assert refused["outcome"]["issue"][0]["expression"] == ["Bundle.entry[1].resource.gender"]
    assert refused["resource"]["type"] == "transaction"


def test_batch_is_remembered_by_entry(store: str) -> None:
    good, bad = entry("POST", "Patient", patient()), entry("POST", "Patient", patient(gender="?"))
    file = write("b.json", bundle(good, bad, good, type="batch"))
    first = load(store, file, status=3)
    assert "2 resources written, 1 refused" in first.output
    assert refusals(first)[0]["source"] == "b.json#1"
    again = load(store, file, status=3)
    assert "0 resources written, 2 were there already, 1 refused" in again.output
    assert counts(store) == {"Patient": 2}


def test_same_bundle_in_another_file_is_the_same_bundle(store: str) -> None:
    content = bundle(entry("POST", "Patient", patient()))
    load(store, write("a.json", content), write("b.json.gz", content), write("c.ndjson", content, content))
    assert counts(store) == {"Patient": 1}


def test_other_bundles_are_stored_and_store_bundles_stores_any(store: str) -> None:
    load(store, write("c.json", {**bundle({"resource": patient("x")}, type="collection"), "id": "c1"}))
    executed = write("t.json", {**bundle(entry("POST", "Patient", patient())), "id": "t1"})
    load(store, executed, "--store-bundles")
    assert counts(store) == {"Bundle": 2}
    load(store, executed)
    assert counts(store) == {"Bundle": 2, "Patient": 1}


def test_refusals_name_file_and_line_and_the_rest_is_written(store: str) -> None:
    file = write(
        "a.ndjson", patient("p1"), b"{", patient("p2", gender="?"), patient("p_3"), [1],
        {"resourceType": "Nothing", "id": "1"},
        {"resourceType": "Patient", "id": 5}, patient("p4"),
    )  # fmt: skip
    result = load(store, file, "--refused", "no.ndjson", status=3)
    assert counts(store) == {"Patient": 2}
    assert "2 resources written, 6 refused (see no.ndjson)" in result.output
    found = [json.loads(line) for line in Path("no.ndjson").read_text().splitlines()]
    assert sorted(one["source"] for one in found) == [f"a.ndjson:{line}" for line in (2, 3, 4, 5, 6, 7)]
    assert all(one["outcome"]["issue"][0]["diagnostics"] for one in found)


def test_file_that_cannot_be_read_is_one_refusal(store: str) -> None:
    Path("a.json.gz").write_bytes(b"no gzip")
    Path("b.ndjson.gz").write_bytes(gzip.compress(json.dumps(patient("p1")).encode() * 5000)[:-20])
    result = load(store, "a.json.gz", "b.ndjson.gz", write("c.json", patient("p2")), status=3)
    assert {one["source"] for one in refusals(result)} >= {"a.json.gz", "b.ndjson.gz"}
    assert counts(store)["Patient"] >= 1


def test_digits_survive_a_load(store: str) -> None:
    text = (
        b'{"resourceType":"Observation","id":"o","status":"final","code":{"text":"x"},'
        b'"valueQuantity":{"value":19.90000000000000000000000001}}'
    )
    load(store, write("a.json", text))
    run("export", "out", "--store", store)
    assert b'"value":19.90000000000000000000000001' in Path("out/Observation.ndjson").read_bytes()


def test_progress_shows_rate_and_estimate(store: str) -> None:
    output = load(store, write("a.ndjson", *(patient(f"p{number}") for number in range(150)))).output
    assert "Loading [############################] 100%  150 resources, " in output
    assert "/s, " in output


def test_export_then_load_gives_the_same_resources(store: str, tmp_path: Path) -> None:
    resources = [patient(f"p{number}", name=[{"family": "王"}]) for number in range(30)]
    load(store, write("a.ndjson", *resources, {"resourceType": "Basic", "id": "b", "code": {"text": "x"}}))
    assert "31 resources written" in run("export", "out", "--gzip", "--store", store).output
    assert sorted(path.name for path in Path("out").iterdir()) == ["Basic.ndjson.gz", "Patient.ndjson.gz"]
    other = f"sqlite:///{tmp_path / 'other.db'}"
    load(other, "out")
    run("export", "again", "--store", other)
    run("export", "some", "--type", "Basic", "--store", other)
    assert [path.name for path in Path("some").iterdir()] == ["Basic.ndjson"]

    def content(path: Path) -> list[dict[str, Any]]:
        data = path.read_bytes()
        lines = (gzip.decompress(data) if path.suffix == ".gz" else data).splitlines()
        found = [json.loads(line) for line in lines]
        for one in found:
            one["meta"].pop("lastUpdated")
        return found

    for name in ("Patient", "Basic"):
        assert content(Path(f"out/{name}.ndjson.gz")) == content(Path(f"again/{name}.ndjson"))


def test_export_of_an_unknown_type_is_refused(store: str) -> None:
    load(store, write("a.json", patient("p1")))
    assert "no resource type" in run("export", "out", "--type", "Patients", "--store", store, status=2).output
