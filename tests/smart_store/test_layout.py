"""A database that an earlier version made, which searched for other fields, is brought up to date when it is opened."""

from __future__ import annotations

from pathlib import Path

import apsw
import pymongo

from smart_auth.records import Account, Session
from smart_auth.store import mongo, sqlite
from tests.support import mongodb
from tests.support.accounts import AuthClock

RECORDS = (
    Account(id="a", name="王", username="wang", person="Person/1"),
    Account(id="b", name="李", username="li", status="locked"),
)


def check(store: sqlite.SqliteAuthStore | mongo.MongoAuthStore) -> None:
    assert store.page(Account) == list(RECORDS)
    assert store.find(Account, person="Person/1") == [RECORDS[0]]
    assert store.find(Account, status="locked") == [RECORDS[1]]
    assert store.page(Session) == [Session(id="s", account="a")]


def test_a_table_of_other_columns_is_made_anew(tmp_path: Path, clock: AuthClock) -> None:
    path = tmp_path / "hestia.db"
    store = sqlite.open_store(path, clock=clock)
    for record in (*RECORDS, Session(id="s", account="a")):
        store.insert(record)
    store.close()
    connection = apsw.Connection(str(path))
    connection.execute("DROP INDEX auth_account_person; ALTER TABLE auth_account DROP COLUMN person")
    connection.execute("ALTER TABLE auth_account ADD COLUMN former; DROP TABLE auth_key")
    connection.close()
    for _ in range(2):
        store = sqlite.open_store(path, clock=clock)
        check(store)
        store.close()


def test_documents_of_other_fields_are_filled(clock: AuthClock) -> None:
    uri, database = mongodb.server().uri, mongodb.fresh_name()
    store = mongo.open_store(uri, database=database, clock=clock)
    for record in (*RECORDS, Session(id="s", account="a")):
        store.insert(record)
    store.close()
    with pymongo.MongoClient(uri) as client:  # type: ignore[var-annotated]
        client[database]["auth_account"].update_many({}, {"$unset": {"person": 1}})
        client[database]["auth_layout"].update_one({"_id": "account"}, {"$set": {"fields_beside": ["username"]}})
    for _ in range(2):
        store = mongo.open_store(uri, database=database, clock=clock)
        check(store)
        store.close()
    mongodb.drop(uri, database)
