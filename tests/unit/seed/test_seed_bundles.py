"""The contract of `seed.bundles`: transactions, idempotent ids, references backwards, the same bytes everywhere."""

from __future__ import annotations

import datetime
import hashlib
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from fhir.resources.R4B import get_fhir_model_class

import seed
from fhir_server.resources.jsonformat import parse
from fhir_server.resources.validate import validate
from tests.unit.seed.seed_demo import references


def digest(**arguments: Any) -> str:
    out = hashlib.sha256()
    for bundle in seed.bundles(**arguments):
        out.update(seed.encode(bundle))
    return out.hexdigest()


def test_every_entry_puts_a_resource_under_its_own_id(demo):
    seen = set()
    for bundle in demo.bundles:
        assert bundle["resourceType"] == "Bundle"
        assert bundle["type"] == "transaction"
        assert 0 < len(bundle["entry"]) <= seed.BUNDLE_SIZE
        for entry in bundle["entry"]:
            item = entry["resource"]
            assert entry["request"] == {"method": "PUT", "url": f"{item['resourceType']}/{item['id']}"}
            assert re.fullmatch(r"[A-Za-z0-9\-.]{1,64}", item["id"])
            seen.add(entry["request"]["url"])
    assert len(seen) == len(demo.resources)


def test_there_are_about_eight_thousand_resources_of_sixty_patients(demo):
    assert 7_500 <= len(demo.resources) <= 8_500
    assert len(demo.of("Patient")) == 60


def test_every_reference_is_to_the_same_or_an_earlier_bundle(demo):
    known: set[str] = set()
    for bundle in demo.bundles:
        known.update(entry["request"]["url"] for entry in bundle["entry"])
        for entry in bundle["entry"]:
            assert [item for item in references(entry["resource"]) if item not in known] == []


def test_every_resource_is_valid_r4():
    """Structure, required bindings, reference targets, invariants; but dom-6, the best practice of a narrative."""
    found = []
    for bundle in seed.bundles():
        for entry in parse(seed.encode(bundle))["entry"]:
            item = entry["resource"]
            findings = validate(item, mode="strict")
            for issue in findings.errors + findings.warnings:
                if not (issue.diagnostics or "").startswith("dom-6"):
                    found.append((item["resourceType"], item["id"], issue.expression, issue.diagnostics))
    assert found == []


@pytest.mark.slow
def test_every_resource_is_accepted_by_fhir_resources(demo):
    for item in demo.resources:
        get_fhir_model_class(item["resourceType"]).model_validate(item)


def test_no_float_is_ever_generated():
    def floats(value: Any) -> bool:
        if isinstance(value, dict):
            return any(floats(item) for item in value.values())
        if isinstance(value, list):
            return any(floats(item) for item in value)
        return isinstance(value, float)

    assert not any(floats(bundle) for bundle in seed.bundles())


def test_money_keeps_two_digits():
    text = b"".join(seed.encode(bundle) for bundle in seed.bundles())
    amounts = re.findall(rb'\{"value":([^,}]*),"currency":"CNY"\}', text)
    assert len(amounts) > 300
    assert [item for item in amounts if not re.fullmatch(rb"\d+\.\d\d", item)] == []
    assert b"19.90" in amounts


def test_everything_is_marked_as_test_data(demo):
    for item in demo.resources:
        assert {tag["code"] for tag in item["meta"]["tag"]} == {"HTEST"}


def test_the_same_arguments_give_the_same_bytes_in_other_processes():
    root = Path(seed.__file__).parents[1]
    program = (
        "import seed,hashlib;h=hashlib.sha256();[h.update(seed.encode(b)) for b in seed.bundles()];print(h.hexdigest())"
    )
    answers = set()
    for hash_seed in ("1", "4711"):
        environment = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(root)}
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True, cwd=root
        )
        answers.add(done.stdout.strip())
    assert answers == {digest()}


def test_another_seed_gives_other_bytes():
    assert digest(patients=3) == digest(patients=3, seed=20260101)
    assert digest(patients=3) != digest(patients=3, seed=1)


@pytest.mark.parametrize(("patients", "random_seed"), [(0, 1), (1, 2), (7, 3), (60, 4), (130, 5)])
def test_any_number_of_patients_and_any_seed_resolves(patients, random_seed):
    known: set[str] = set()
    count = 0
    for bundle in seed.bundles(patients=patients, seed=random_seed, today=datetime.date(2026, 3, 1)):
        urls = [entry["request"]["url"] for entry in bundle["entry"]]
        assert not known.intersection(urls)
        known.update(urls)
        count += sum(url.startswith("Patient/") for url in urls)
        for entry in bundle["entry"]:
            assert [item for item in references(entry["resource"]) if item not in known] == []
    assert count == patients


def test_a_negative_number_of_patients_is_refused():
    with pytest.raises(ValueError, match="patients"):
        seed.bundles(patients=-1)


def test_generation_is_quick():
    started = time.process_time()
    for bundle in seed.bundles():
        seed.encode(bundle)
    assert time.process_time() - started < 5
