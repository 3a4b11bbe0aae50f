"""Keys: rotation, a missing one, another one, and a store that was filled before."""

from __future__ import annotations

import logging

import pytest

from fhir_server import sealing
from fhir_server.sealing import RESIDENT_ID, Sealer, check_key, is_marked, sealed_member
from tests.sealing.conftest import KEY, NUMBER, OTHER_KEY, SECOND, Build, Database, patient, shown

UNIQUE = {"unique_identifiers": {"Patient": (RESIDENT_ID,)}}


def test_the_same_number_gives_the_same_text_and_no_key_another() -> None:
    first, other = Sealer([KEY]), Sealer([OTHER_KEY])
    text = first.seal_value(NUMBER)
    assert text == Sealer([KEY, OTHER_KEY]).seal_value(NUMBER)
    assert text != first.seal_value(SECOND)
    assert text != other.seal_value(NUMBER)
    assert first.open_value(text) == NUMBER
    assert Sealer([OTHER_KEY, KEY]).open_value(text) == NUMBER
    assert other.open_value(text) is None


def test_a_text_that_was_changed_does_not_open() -> None:
    sealer = Sealer([KEY])
    text = sealer.seal_value(NUMBER)
    for changed in (
        text[:-1] + ("0" if text[-1] != "0" else "1"),
        text[:-2],
        text + "00",
        text.upper(),
        "sealed:1:",
        "",
    ):
        assert sealer.open_value(changed) is None


@pytest.mark.parametrize("keys", [[], [b"short"], [KEY, b""]])
def test_a_key_has_32_bytes(keys: list[bytes]) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Sealer(keys)


def test_a_key_does_not_show_in_what_is_recorded() -> None:
    assert KEY.hex()[:16] not in str(Sealer([KEY]).checks)
    assert "0001020304" not in repr(Sealer([KEY]))


def test_a_store_takes_only_the_keys_that_sealed_it(database: Database, build: Build) -> None:
    store = database.open()
    check_key(store, None)
    check_key(store, Sealer([KEY]))
    build(KEY).store(patient("a"))
    check_key(store, Sealer([KEY]))
    with pytest.raises(ValueError, match="Configure the master key"):
        check_key(store, None)
    with pytest.raises(ValueError, match="another master key"):
        check_key(store, Sealer([OTHER_KEY]))
    check_key(store, Sealer([OTHER_KEY, KEY]))
    check_key(store, Sealer([KEY]))


def test_a_store_with_numbers_in_clear_is_refused(database: Database, build: Build) -> None:
    build().store({"resourceType": "Patient", "id": "b"})
    store = database.open()
    check_key(store, Sealer([KEY]))
    build().store(patient("a"))
    store.put_meta("sealing", {})
    with pytest.raises(ValueError, match="in clear"):
        check_key(store, Sealer([KEY]))


def test_sealed_bodies_without_the_record_are_tried(database: Database, build: Build) -> None:
    build(KEY).store(patient("a"))
    store = database.open()
    with pytest.raises(ValueError, match="another master key"):
        check_key(store, Sealer([OTHER_KEY]))
    check_key(store, Sealer([KEY]))


def test_after_a_rotation_everything_is_found_and_unique(database: Database, build: Build) -> None:
    build(KEY, **UNIQUE).store(patient("a"))
    rotated = build(OTHER_KEY, KEY, **UNIQUE)
    assert shown(rotated.get("/Patient/a").json) == NUMBER
    assert rotated.get(f"/Patient?identifier={NUMBER}").matches == ["a"]
    assert rotated.put("/Patient/b", patient("b")).status == 409, "the claim was made under the older key"
    assert rotated.put("/Patient/b", patient("b", SECOND)).status == 201
    assert rotated.put("/Patient/a", patient("a", gender="female")).status == 200
    newest = build(OTHER_KEY, **UNIQUE)
    assert shown(newest.get("/Patient/a").json) == NUMBER, "a write seals with the first key"
    assert set(newest.get(f"/Patient?identifier={NUMBER},{SECOND}").matches) == {"a", "b"}
    assert newest.put("/Patient/c", patient("c")).status == 409


def test_a_number_whose_key_is_gone_is_masked_and_kept(
    build: Build, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealing, "_reported", set())
    build(KEY).store(patient("a"))
    other = build(OTHER_KEY)
    with caplog.at_level(logging.WARNING, logger="fhir_server.sealing"):
        answer = other.get("/Patient/a")
        other.get("/Patient/a")
    assert (answer.status, shown(answer.json)) == (200, "********")
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert NUMBER not in caplog.text
    resource = answer.json
    resource["gender"] = "female"
    assert other.put("/Patient/a", resource).status == 200
    assert other.patch("/Patient/a", [{"op": "add", "path": "/active", "value": True}]).status == 200
    answer = build(KEY).get("/Patient/a")
    assert shown(answer.json) == NUMBER
    assert answer.json["gender"] == "female"


def test_a_server_without_keys_never_shows_a_sealed_text(build: Build) -> None:
    build(KEY).store(patient("a"))
    without = build()
    for path in ("/Patient/a", "/Patient/a/_history", "/Patient", "/Patient/a?_format=xml"):
        answer = without.get(path)
        assert answer.status == 200
        assert b"sealed:" not in answer.body
        assert b"********" in answer.body


def test_members_of_before_are_sealed_on_their_way_to_another_store(database: Database, build: Build) -> None:
    client = build()
    client.store(patient("a"), {"resourceType": "Patient", "id": "b"})
    sealer = Sealer([KEY])
    found = [one.body for one in client.server.store.scan()]
    members = [sealed_member(sealer, body) for body in found if body is not None]
    assert [is_marked(member) for member in members] == [True, False]
    assert members[1] == found[1]
    assert sealed_member(sealer, members[0]) is members[0]
    assert sealing.clear_json(sealer, members[0]) == sealing.clear_json(None, found[0] or b"")


def test_a_source_may_hold_numbers_in_clear_and_is_not_written_to(database: Database, build: Build) -> None:
    build().store(patient("a"))
    store = database.open()
    check_key(store, Sealer([KEY]), source=True)
    assert store.get_meta("sealing") is None


def test_a_check_that_may_not_write_records_nothing(database: Database) -> None:
    store = database.open()
    check_key(store, Sealer([KEY]), record=False)
    assert store.get_meta("sealing") is None
