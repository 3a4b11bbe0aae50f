"""Nothing is lost and nothing is recorded twice, whatever ends when."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from fhir_server.audit import journal
from fhir_server.audit.drain import OFFSETS, PROCESSES, Drainer, Stale
from fhir_server.audit.events import Event
from fhir_server.audit.recorder import QUEUE, DurableRecorder
from fhir_server.audit.running import start
from fhir_server.errors import Busy
from tests.audit.conftest import KEY, MASTER, World, make_server, request_of, subtypes
from tests.support.http import Client

PATIENT = {"resourceType": "Patient", "name": [{"family": "Zhao"}]}


def requests_of(world: World) -> Counter[str]:
    return Counter(request_of(event) for event in world.stored())


def work(client: Client, name: str) -> list[str]:
    """A write, a read, a search and a refusal; their request ids."""
    ids = [f"{name}-{part}" for part in ("write", "read", "search", "absent")]
    written = client.post("/Patient", PATIENT, x_request_id=ids[0])
    client.get(f"/Patient/{written.id}", x_request_id=ids[1])
    client.get(f"/Patient?_id={written.id}", x_request_id=ids[2])
    client.get("/Patient/absent", x_request_id=ids[3])
    return ids


def test_a_refused_write_leaves_no_event_of_success(world: World) -> None:
    client = world.client()
    client.put("/Patient/p1", {**PATIENT, "id": "p1"})
    assert client.put("/Patient/p1", {**PATIENT, "id": "p1"}, if_match='W/"7"', x_request_id="late").status == 412
    late = [event for event in world.events() if request_of(event) == "late"]
    assert [(subtypes(event), event["outcome"]) for event in late] == [(["update"], "4")]


def test_what_a_dead_process_left_is_drained_by_another(world: World) -> None:
    ids = work(world.client(), "a")
    world.recorder.close()
    store = world.server.store
    store.put_meta(PROCESSES + world.recorder.id, {"host": "elsewhere", "pid": 1, "at": time.time() - 3600})
    world.another_drainer().drain()
    assert requests_of(world) == Counter(ids)
    assert journal.journals(world.directory) == []
    assert store.meta_items(QUEUE) == {}
    assert store.meta_items(OFFSETS) == {}
    assert store.meta_items(PROCESSES) == {}
    assert world.verify().findings == []


def test_the_queue_of_a_living_process_is_left_to_it(world: World) -> None:
    work(world.client(), "a")
    world.drainer._beat()
    other = world.another_drainer()
    other.drain()
    assert world.stored() == []
    world.drainer.drain()
    assert len(world.stored()) == 4


def test_two_drainers_of_the_same_orphans_move_each_event_once(world: World) -> None:
    client = world.client()
    ids = [one for number in range(5) for one in work(client, str(number))]
    world.recorder.close()
    first, second = world.another_drainer(), world.another_drainer()
    batches = first._batches(True)
    later = list(second._queue(f"{QUEUE}{world.recorder.id}/"))
    first._commit(next(batches))
    batches.close()
    first.drain()
    for batch in later:
        with pytest.raises(Stale):
            second._commit(batch)
    second._reload()
    second.drain()
    assert requests_of(world) == Counter(ids)
    assert world.verify().findings == []


def test_a_commit_that_is_not_heard_of_is_not_repeated(world: World) -> None:
    ids = work(world.client(), "a")
    store = world.drainer._server.store
    transact = store.transact

    def unheard(work: Any, **more: Any) -> Any:
        transact(work, **more)
        raise Busy

    world.drainer.step()
    more = work(world.client(), "b")
    store.transact = unheard  # type: ignore[method-assign]
    with pytest.raises(Busy):
        world.drainer.step()
    store.transact = transact  # type: ignore[method-assign]
    world.drainer.drain()
    assert requests_of(world) == Counter([*ids, *more])
    assert world.verify().findings == []


def test_an_unfinished_last_line_is_passed_over_and_a_damaged_one_is_told(world: World) -> None:
    client = world.client()
    client.get("/Patient/absent", x_request_id="a")
    client.get("/Patient/absent", x_request_id="b")
    path = world.recorder.journal
    world.recorder.close()
    data = path.read_bytes()
    first = data.index(b"\n")
    path.write_bytes(data[: first - 3] + b"###" + data[first:] + b"0bad0bad {unfinis")
    world.another_drainer().drain()
    stored = world.stored()
    assert sorted(subtypes(event)[-1] for event in stored) == ["audit-damaged", "read"]
    assert next(request_of(event) for event in stored if subtypes(event) == ["read"]) == "b"
    assert journal.journals(world.directory) == []


def test_a_full_journal_is_followed_by_a_new_one(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "MAX_BYTES", 1000)
    client = world.client()
    ids = [f"r{number}" for number in range(12)]
    for one in ids:
        client.get("/Patient/absent", x_request_id=one)
    assert len(journal.journals(world.directory)) > 2
    world.drainer.drain()
    assert requests_of(world) == Counter(ids)
    assert journal.journals(world.directory) == [world.recorder.journal]


def test_a_journal_that_cannot_be_written_refuses_all_of_an_append(tmp_path: Path) -> None:
    recorder = DurableRecorder(tmp_path, sync="always")
    recorder.record([Event(at=1, action="read")])
    size = recorder.journal.stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, limits[1]))
    try:
        with pytest.raises(Busy):
            recorder.record([Event(at=2, action="read")])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert recorder.journal.stat().st_size == size
    recorder.record([Event(at=3, action="read")])
    assert recorder.journal.stat().st_size == 2 * size
    assert [event.at for event in journal.read(recorder.journal, 0, 10).events] == [1, 3]
    recorder.close()


def test_a_running_audit_drains_by_itself_and_at_its_end(world: World, tmp_path: Path) -> None:
    audit = start(lambda: make_server(world.open_store()), [MASTER], tmp_path / "running")
    world.server.recorder = audit.recorder
    client = world.client()
    ids = work(client, "a")
    until = time.monotonic() + 20
    while len(world.stored()) < 4 and time.monotonic() < until:
        time.sleep(0.05)
    assert requests_of(world) == Counter(ids)
    ids += work(client, "b")
    audit.stop()
    assert requests_of(world) == Counter(ids)
    assert world.verify().findings == []


def test_an_end_without_time_leaves_the_rest_to_others(world: World, tmp_path: Path) -> None:
    audit = start(lambda: make_server(world.open_store()), [MASTER], world.directory)
    world.server.recorder = audit.recorder
    client = world.client()
    ids = [one for number in range(10) for one in work(client, str(number))]
    audit.stop(0.0)
    audit._thread.join()
    record = PROCESSES + audit.recorder.id
    world.server.store.transact(lambda transaction: transaction.remove_meta([record]))
    world.another_drainer().drain()
    assert requests_of(world) == Counter(ids)
    assert world.verify().findings == []


@pytest.mark.parametrize("after", [7, 40])
def test_after_a_kill_every_acknowledged_interaction_has_one_event(world: World, after: int) -> None:
    store = world.server.store
    where = str(store._path) if hasattr(store, "_path") else f"{store._uri}#{store._name}"  # type: ignore[attr-defined]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.audit.killed", where, str(world.directory)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    acknowledged = [process.stdout.readline().strip() for _ in range(after)]
    process.send_signal(signal.SIGKILL)
    process.wait()
    acknowledged += [line.strip() for line in process.stdout if line.endswith("\n")]
    process.stdout.close()
    assert all(acknowledged)
    drainer = Drainer(make_server(world.open_store()), KEY, world.directory)
    until = time.monotonic() + 90
    while True:
        try:
            drainer.drain()
            break
        except Busy:
            # The database may hold what the killed process had begun for a while; a running drainer tries again, too.
            assert time.monotonic() < until
    found = requests_of(world)
    assert {one: found[one] for one in acknowledged} == dict.fromkeys(acknowledged, 1)
    assert set(found.values()) == {1}
    assert len(found) - len(acknowledged) in (0, 1)
    assert world.verify().findings == []
