"""What every store of records does: protocol smart_auth/store/protocol.py."""

from __future__ import annotations

import pytest

from smart_auth.records import KINDS, Account, Client, Code, Grant, OneTime, Record, RoleLink, Session
from smart_auth.store.protocol import AuthStore, Taken
from smart_auth.store.rows import dump, dump_lines, restore_lines
from tests.support.accounts import AuthClock
from tests.support.records import Opener


def account(id: str, **values: object) -> Account:
    return Account(id=id, name="王小明", **values)  # type: ignore[arg-type]


def test_a_record_comes_back_as_it_was(store: AuthStore) -> None:
    role = RoleLink(role="doctor", fhir_user="Practitioner/1", granted_at=5)
    whole = account("a", username="wang", phone="sealed", roles=(role,), created_at=7, recovery_codes=("x", "y"))
    store.insert(whole)
    assert store.get(Account, "a") == whole


def test_what_bson_could_not_hold_comes_back(store: AuthStore) -> None:
    client = Client(id="c", name="app", type="backend", jwks={"a.b": {"$set": 2**70}, "": None})
    store.insert(client)
    assert store.get(Client, "c") == client


def test_an_absent_record_is_none(store: AuthStore) -> None:
    assert store.get(Account, "nobody") is None


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_can_be_listed(store: AuthStore, kind: type[Record]) -> None:
    assert store.page(kind) == []
    assert store.count(kind) == 0


def test_inserting_an_id_twice_is_taken(store: AuthStore) -> None:
    store.insert(OneTime(id="jti|1"))
    with pytest.raises(Taken) as caught:
        store.insert(OneTime(id="jti|1"))
    assert caught.value.field == "id"


@pytest.mark.parametrize("field", ["username", "phone", "email"])
def test_a_unique_value_is_taken_and_never_named(store: AuthStore, field: str) -> None:
    store.insert(account("a", **{field: "secret-value"}))
    with pytest.raises(Taken) as caught:
        store.insert(account("b", **{field: "secret-value"}))
    assert caught.value.field == field
    assert "secret-value" not in str(caught.value)
    store.insert(account("c"))
    with pytest.raises(Taken):
        store.put(account("c", **{field: "secret-value"}))
    with pytest.raises(Taken):
        store.change(Account, "c", lambda found: account("c", **{field: "secret-value"}))
    assert store.get(Account, "c") == account("c")


def test_many_records_may_lack_a_unique_value(store: AuthStore) -> None:
    for id in ("a", "b", "c"):
        store.put(account(id))
        store.put(account(id, username=id))
        store.put(account(id))
    assert store.count(Account) == 3


def test_a_unique_value_given_up_is_free(store: AuthStore) -> None:
    store.insert(account("a", phone="1"))
    store.put(account("a", phone="2"))
    store.insert(account("b", phone="1"))
    assert [one.id for one in store.find(Account, phone="1")] == ["b"]


def test_put_replaces_and_keeps_its_own_unique_values(store: AuthStore) -> None:
    store.put(account("a", username="wang", failures=1))
    store.put(account("a", username="wang", failures=2))
    assert store.get(Account, "a") == account("a", username="wang", failures=2)


def test_find_gives_equals_oldest_first(store: AuthStore) -> None:
    for id, created, client in (("x", 30, "one"), ("y", 10, "one"), ("z", 20, "two"), ("w", 10, "one")):
        store.insert(Grant(id=id, client=client, account="a", role="patient", created_at=created))
    assert [one.id for one in store.find(Grant, account="a", client="one")] == ["w", "y", "x"]
    assert store.count(Grant, account="a") == 4
    assert store.find(Grant, account="b") == []


def test_find_by_absence(store: AuthStore) -> None:
    store.insert(Grant(id="x", client="c", role="system"))
    store.insert(Grant(id="y", client="c", role="patient", account="a"))
    assert [one.id for one in store.find(Grant, account=None)] == ["x"]


def test_find_by_a_field_without_index_is_refused(store: AuthStore) -> None:
    with pytest.raises(ValueError, match="no index"):
        store.find(Account, name="王小明")
    with pytest.raises(ValueError, match="no index"):
        store.count(Account, name="王小明")


def test_pages_go_by_id(store: AuthStore, clock: AuthClock) -> None:
    for number in range(7):
        store.insert(OneTime(id=f"n{number}", expires_at=clock.now if number == 2 else None))
    first = store.page(OneTime, limit=3)
    second = store.page(OneTime, after=first[-1].id, limit=9)
    assert [one.id for one in first] == ["n0", "n1", "n3"]
    assert [one.id for one in second] == ["n4", "n5", "n6"]


def test_an_expired_record_is_absent_everywhere(store: AuthStore, clock: AuthClock) -> None:
    session = Session(id="s", account="a", created_at=clock.now, expires_at=clock.now + 10)
    store.insert(session)
    assert store.get(Session, "s") == session
    clock.advance(10)
    assert store.get(Session, "s") is None
    assert store.find(Session, account="a") == []
    assert store.page(Session) == []
    assert store.count(Session, account="a") == 0
    assert store.change(Session, "s", lambda found: found) is None
    assert store.take(Session, "s") is None


def test_an_expired_record_holds_nothing(store: AuthStore, clock: AuthClock) -> None:
    store.insert(account("a", username="wang", expires_at=clock.now + 10))
    clock.advance(10)
    store.insert(account("b", username="wang"))
    assert [one.id for one in store.find(Account, username="wang")] == ["b"]
    store.insert(OneTime(id="jti", expires_at=clock.now + 1))
    clock.advance(1)
    store.insert(OneTime(id="jti"))
    with pytest.raises(Taken):
        store.insert(OneTime(id="jti"))


def test_deleting_an_expired_record_says_there_was_none(store: AuthStore, clock: AuthClock) -> None:
    store.insert(OneTime(id="x", expires_at=clock.now + 1))
    clock.advance(1)
    assert store.delete(OneTime, "x") is False


def test_purge_removes_what_expired_and_nothing_else(store: AuthStore, clock: AuthClock) -> None:
    store.insert(OneTime(id="old", expires_at=clock.now + 1))
    store.insert(OneTime(id="new", expires_at=clock.now + 3))
    store.insert(OneTime(id="for ever"))
    store.hit("key", 1)
    clock.advance(2)
    assert store.purge() == 2
    assert store.purge() == 0
    assert [one.id for one in store.page(OneTime)] == ["for ever", "new"]


def test_change_stores_what_it_returns(store: AuthStore) -> None:
    store.insert(account("a", failures=1))
    assert store.change(Account, "a", lambda found: account("a", failures=found.failures + 1)) == account(
        "a", failures=2
    )
    assert store.get(Account, "a") == account("a", failures=2)


def test_change_to_none_stores_nothing(store: AuthStore) -> None:
    store.insert(account("a", failures=1))
    assert store.change(Account, "a", lambda found: None) is None
    assert store.get(Account, "a") == account("a", failures=1)


def test_change_of_an_absent_record_is_none(store: AuthStore) -> None:
    assert store.change(Account, "a", lambda found: found) is None


def test_an_error_in_a_change_stores_nothing(store: AuthStore) -> None:
    store.insert(account("a"))

    def fail(found: Account) -> Account:
        raise LookupError

    with pytest.raises(LookupError):
        store.change(Account, "a", fail)
    assert store.get(Account, "a") == account("a")


def test_a_record_is_taken_once(store: AuthStore) -> None:
    store.insert(OneTime(id="x", value={"a": 1}))
    assert store.take(OneTime, "x") == OneTime(id="x", value={"a": 1})
    assert store.take(OneTime, "x") is None


def test_delete_says_whether_there_was_one(store: AuthStore) -> None:
    store.insert(OneTime(id="x"))
    assert store.delete(OneTime, "x") is True
    assert store.delete(OneTime, "x") is False


def test_kinds_do_not_share_ids(store: AuthStore) -> None:
    store.insert(OneTime(id="x"))
    store.insert(Code(id="x", grant="g", client="c", redirect_uri="", code_challenge="", scope="", valid_until=1))
    assert store.delete(OneTime, "x")
    assert store.get(Code, "x") is not None


def test_hits_are_counted_per_key_and_window(store: AuthStore, clock: AuthClock) -> None:
    clock.now -= clock.now % 60
    assert [store.hit("a", 60), store.hit("a", 60), store.hit("b", 60), store.hit("a", 3600)] == [1, 2, 1, 1]
    clock.advance(59)
    assert store.hit("a", 60) == 3
    clock.advance(1)
    assert [store.hit("a", 60), store.hit("a", 3600)] == [1, 2]


def test_another_store_object_sees_it_all(store: AuthStore, open_it: Opener) -> None:
    store.insert(account("a", username="wang"))
    store.hit("key", 60)
    other = open_it()
    assert other.get(Account, "a") == account("a", username="wang")
    assert other.hit("key", 60) == 2


def test_a_dump_holds_what_is_durable_and_restores(store: AuthStore) -> None:
    durable = [account("a", username="wang"), account("b"), Client(id="c", name="app", type="public")]
    for record in (*durable, OneTime(id="x"), Session(id="s", account="a")):
        store.insert(record)
    assert list(dump(store)) == durable
    lines = list(dump_lines(store))
    for one in durable:
        store.delete(type(one), one.id)
    store.insert(account("a", username="other"))
    assert restore_lines(store, [*lines, b"\n"]) == 3
    assert list(dump(store)) == durable


@pytest.mark.parametrize("line", [b"{}", b'["nothing",{}]', b'["account",{"id":1}]', b"\xff"])
def test_a_damaged_line_of_a_backup_is_named(store: AuthStore, line: bytes) -> None:
    good = b'["one-time",{"id":"x"}]'
    with pytest.raises(ValueError, match="Line 2"):
        restore_lines(store, [good, line])


def test_records_read_together_are_those_of_now(open_it: Opener, clock: AuthClock) -> None:
    """What another worker changes, adds, removes, or what expires, is seen at the next question."""
    store, other = open_it(), open_it()
    grant = Grant(id="g", client="c", role="doctor", expires_at=clock() + 10)
    store.insert(grant)
    wanted = ((Grant, "g"), (Client, "c"), (Account, "a"))
    assert store.together(*wanted) == store.together(*wanted) == (grant, None, None)
    client = Client(id="c", name="App", type="public")
    other.insert(client)
    other.insert(account("a"))
    assert store.together(*wanted) == (grant, client, account("a"))
    other.put(account("a", status="locked"))
    assert store.together(*wanted) == (grant, client, account("a", status="locked"))
    other.delete(Client, "c")
    assert store.together(*wanted)[1] is None
    assert store.together((Account, "a")) == (account("a", status="locked"),)
    clock.advance(10)
    assert store.together(*wanted) == (None, None, account("a", status="locked"))
    assert store.together(*wanted) == (None, None, account("a", status="locked"))
