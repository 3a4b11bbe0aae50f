"""A directory of its own for each test of the command line, and stores of both kinds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import mongodb
from tests.support.command_line import ROOT, mongo_uri

SYNTHEA = {
    "Observation": 4266, "Claim": 887, "Encounter": 696, "ExplanationOfBenefit": 696, "Immunization": 476,
    "Procedure": 339, "DiagnosticReport": 272, "Condition": 228, "MedicationRequest": 191, "Organization": 163,
    "Practitioner": 163, "CarePlan": 85, "Goal": 66, "Patient": 40, "AllergyIntolerance": 19, "ImagingStudy": 15,
}  # fmt: skip
"""Resources per type, as the README of the data lists them: 8,602 together."""


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of the test."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def sqlite_uri(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'store.db'}"


@pytest.fixture
def mongo_database() -> Iterator[str]:
    """The URI of a database that is dropped after the test."""
    name = mongodb.fresh_name()
    yield mongo_uri(name)
    mongodb.drop(mongodb.server().uri, name)


@pytest.fixture(params=["sqlite", "mongo"])
def store_uri(request: pytest.FixtureRequest) -> str:
    """A store of each kind."""
    return str(request.getfixturevalue("sqlite_uri" if request.param == "sqlite" else "mongo_database"))


@pytest.fixture(scope="session")
def synthea() -> Path:
    """The directory of the Synthea patients, which this repository does not ship."""
    path = Path(os.environ.get("HESTIA_SYNTHEA") or ROOT.parent / "shared" / "data" / "synthea")
    if not path.is_dir():
        pytest.skip("The Synthea patients are not here (../shared/data/synthea, or HESTIA_SYNTHEA).")
    return path
