"""The embedded store of records lives in the file of the FHIR store, whichever comes first."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from fhir_server.storage.sqlite import open_store as open_fhir_store
from smart_auth.records import OneTime
from smart_auth.store.sqlite import UnusableStore, open_store


@pytest.mark.parametrize("accounts_first", [True, False])
def test_both_stores_share_a_file(tmp_path: Path, accounts_first: bool) -> None:
    path = tmp_path / "hestia.db"
    if accounts_first:
        records, resources = open_store(path), open_fhir_store(path)
    else:
        resources, records = open_fhir_store(path), open_store(path)
    records.insert(OneTime(id="x"))
    assert resources.read("Patient", "x") is None
    assert list(resources.check()) == []
    resources.close()
    records.close()
    again, records = open_fhir_store(path), open_store(path)
    assert records.get(OneTime, "x") == OneTime(id="x")
    records.close()
    again.close()


def test_the_file_of_another_application_is_refused(tmp_path: Path) -> None:
    connection = apsw.Connection(str(tmp_path / "other.db"))
    connection.pragma("application_id", 1)
    connection.close()
    with pytest.raises(UnusableStore, match="another application"):
        open_store(tmp_path / "other.db")


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("not a database, whatever its name says" * 100)
    with pytest.raises(UnusableStore, match="not a SQLite database"):
        open_store(tmp_path / "text.db")


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnusableStore, match="cannot be opened"):
        open_store(tmp_path)
