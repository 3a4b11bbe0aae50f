"""The directory of the authorization server: which patients staff can launch an app for is what they may see (K23)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hestia.directory import FhirDirectory
from hestia.policies import Policies
from smart_auth.store.protocol import AuthStore
from smart_auth.store.sqlite import open_store
from tests.access import people
from tests.access.conftest import Hospital

WHO = "Practitioner/doc"


@pytest.fixture
def records(tmp_path: Path) -> Iterator[AuthStore]:
    """An empty store of records: the shipped policies are in force."""
    opened = open_store(tmp_path / "records.db")
    yield opened
    opened.close()


@pytest.fixture
def directory(hospital: Hospital, records: AuthStore) -> FhirDirectory:
    """Of a hospital whose doctor treats one patient of two."""
    hospital.put(
        people.practitioner("doc"),
        people.practitioner("nurse"),
        people.patient("treated"),
        people.patient("other"),
        people.encounter("e", "treated", WHO),
    )
    return FhirDirectory(hospital.server, Policies(records))


def test_doctor_sees_whom_he_or_she_treats(directory: FhirDirectory) -> None:
    assert directory.sees("doctor", WHO, "treated")
    assert not directory.sees("doctor", WHO, "other")
    assert not directory.sees("doctor", WHO, "nobody")
    assert not directory.sees("doctor", None, "treated")


def test_what_is_seen_is_what_the_picker_finds(directory: FhirDirectory) -> None:
    for role in ("doctor", "nurse", "pharmacist", "laboratory", "administrator"):
        listed = {one.patient for one in directory.patients(role, WHO, "")}
        assert listed == {one for one in ("treated", "other") if directory.sees(role, WHO, one)}


def test_no_role_and_no_id_see_nothing(directory: FhirDirectory) -> None:
    assert not directory.sees("nonsense", WHO, "treated")
    assert not directory.sees("doctor", WHO, "../treated")
