"""Verification finds what was removed, changed, moved or cut off, by somebody who has the database and not the key."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from fhir_server.audit import chain
from fhir_server.audit.chain import Key
from fhir_server.audit.verify import verify
from fhir_server.gzipped import deflate, inflate
from fhir_server.storage.protocol import Store
from tests.audit.conftest import KEY, World


@pytest.fixture
def events(world: World) -> list[str]:
    """Addresses of six events of one chain, anchored."""
    client = world.client()
    for number in range(6):
        client.get(f"/Patient/absent-{number}")
    world.drainer.drain()
    report = world.verify()
    assert report.findings == []
    assert (report.events, report.chains, report.anchors) == (6, 1, 1)
    return [f"AuditEvent/{one['id']}" for one in world.stored()]


def forge(store: Store, address: str, change: Callable[[dict[str, Any]], dict[str, Any]] | None) -> None:
    """What somebody with access to the database can do: replaces a resource in place, or removes it (None)."""
    if hasattr(store, "_connection"):
        connection = store._connection
        if change is None:
            connection.execute("DELETE FROM resource WHERE address = ?", (address,))
            return
        body = connection.execute("SELECT body FROM resource WHERE address = ?", (address,)).get
        new = deflate(json.dumps(change(json.loads(inflate(body)))).encode())
        connection.execute("UPDATE resource SET body = ? WHERE address = ?", (new, address))
        return
    collection: Any = store._collection("resources")  # type: ignore[attr-defined]
    if change is None:
        collection.delete_one({"_id": address})
        return
    raw = collection.find_one({"_id": address})
    new = deflate(json.dumps(change(json.loads(inflate(raw["body"])))).encode())
    collection.update_one({"_id": address}, {"$set": {"body": new}})


def set_meta(store: Store, key: str, value: Any) -> None:
    if value is None:
        store.transact(lambda transaction: transaction.remove_meta([key]))
    else:
        store.put_meta(key, value)


def content(store: Store, address: str) -> dict[str, Any]:
    found = store.read(*address.split("/"))
    assert found is not None
    assert found.body is not None
    read: dict[str, Any] = json.loads(inflate(found.body))
    return read


def head_of(world: World) -> str:
    return chain.HEADS + world.drainer.chain


def test_a_changed_event_is_found(world: World, events: list[str]) -> None:
    forge(world.server.store, events[2], lambda resource: {**resource, "outcome": "0"})
    assert world.verify().findings == [f"{events[2]} was changed."]


def test_a_changed_label_is_found(world: World, events: list[str]) -> None:
    def label(resource: dict[str, Any]) -> dict[str, Any]:
        return {**resource, "meta": {**resource["meta"], "security": [{"code": "R"}]}}

    forge(world.server.store, events[2], label)
    assert world.verify().findings == [f"{events[2]} was changed."]


def test_a_removed_event_is_found(world: World, events: list[str]) -> None:
    forge(world.server.store, events[3], None)
    assert world.verify().findings == [f"Chain {world.drainer.chain}: event 4 is missing."]


def test_a_removed_beginning_is_found(world: World, events: list[str]) -> None:
    forge(world.server.store, events[0], None)
    forge(world.server.store, events[1], None)
    assert world.verify().findings == [f"Chain {world.drainer.chain}: events 1 to 2 are missing."]


def test_exchanged_events_are_found(world: World, events: list[str]) -> None:
    store = world.server.store
    first, second = content(store, events[1]), content(store, events[2])
    forge(store, events[1], lambda _: {**second, "id": first["id"]})
    forge(store, events[2], lambda _: {**first, "id": second["id"]})
    found = world.verify().findings
    assert f"{events[1]} is not where it belongs." in found
    assert f"{events[2]} is not where it belongs." in found


def test_a_cut_off_end_is_found_by_the_head(world: World, events: list[str]) -> None:
    forge(world.server.store, events[5], None)
    assert world.verify().findings == [f"Chain {world.drainer.chain}: event 6 at its end is missing."]


def test_a_cut_off_end_with_its_head_set_back_is_found_by_the_anchor(world: World, events: list[str]) -> None:
    store = world.server.store
    place = chain.place(content(store, events[3]))
    assert place is not None
    forge(store, events[4], None)
    forge(store, events[5], None)
    set_meta(store, head_of(world), {"sequence": 4, "hash": place.hash, "key": KEY.id, "at": 1})
    found = world.verify().findings
    assert f"Chain {world.drainer.chain}: its head was set back from 6 to 4." in found
    assert f"Chain {world.drainer.chain}: events 5 to 6 at its end are missing." in found


def test_a_removed_chain_is_found(world: World, events: list[str]) -> None:
    store = world.server.store
    for address in events:
        forge(store, address, None)
    set_meta(store, head_of(world), None)
    found = world.verify().findings
    assert f"Chain {world.drainer.chain}: its head is missing, although an anchor knows it." in found
    assert f"Chain {world.drainer.chain}: events 1 to 6 at its end are missing." in found


def test_a_removed_chain_with_its_anchors_is_found_by_the_file(world: World, events: list[str]) -> None:
    store = world.server.store
    for address in events:
        forge(store, address, None)
    for key in (head_of(world), chain.anchor_key(1), chain.LAST_ANCHOR):
        set_meta(store, key, None)
    found = world.verify().findings
    assert "Anchor 1 of anchors.ndjson is not in the store, or another one there." in found
    assert f"Chain {world.drainer.chain}: events 1 to 6 at its end are missing." in found


def test_a_changed_or_removed_anchor_is_found(world: World, events: list[str]) -> None:
    store = world.server.store
    world.client().get("/Patient/absent")
    world.drainer.drain()
    record = store.get_meta(chain.anchor_key(1))
    assert record is not None
    set_meta(store, chain.anchor_key(1), {**record, "at": 1})
    assert "Anchor 1 was changed, or made with a key that is not known here." in world.verify().findings
    set_meta(store, chain.anchor_key(1), None)
    assert "The anchors before number 2 are not whole." in world.verify().findings
    set_meta(store, chain.anchor_key(1), record)
    assert world.verify().findings == []
    set_meta(store, chain.LAST_ANCHOR, None)
    assert world.verify().findings == ["The record of the last anchor does not lead to it."]


def test_a_lost_record_of_the_last_anchor_does_not_end_the_anchors(world: World, events: list[str]) -> None:
    set_meta(world.server.store, chain.LAST_ANCHOR, None)
    world.client().get("/Patient/absent")
    world.drainer.drain()
    report = world.verify()
    assert (report.findings, report.anchors) == ([], 2)


def test_an_event_that_somebody_made_up_is_found(world: World, events: list[str]) -> None:
    store = world.server.store
    before = content(store, events[5])
    place = chain.place(before)
    assert place is not None
    plain = {name: value for name, value in before.items() if name not in ("id", "extension", "meta")}
    made, _ = chain.linked(plain, place.chain, 6, place.previous, Key.derive(bytes(32)))
    forge(store, events[5], lambda _: made)
    assert f"{events[5]} was changed." in world.verify().findings
    foreign, _ = chain.linked(plain, "0" * 16, 1, "", Key.derive(bytes(32)))
    forge(store, events[5], lambda _: foreign)
    assert f"{events[5]} belongs to a chain that does not exist." in world.verify().findings


def test_another_key_verifies_nothing(world: World, events: list[str]) -> None:
    found = verify(world.server.store, [Key.derive(bytes(32))]).findings
    assert f"Chain {world.drainer.chain} was made with a key that is not known here." in found


def test_chains_of_several_processes_are_anchored_together(world: World, events: list[str]) -> None:
    other = world.another_drainer()
    client = world.client()
    client.get("/Patient/absent")
    world.recorder.close()
    other.drain()
    report = world.verify()
    assert report.findings == []
    assert (report.events, report.chains, report.anchors) == (7, 2, 2)
