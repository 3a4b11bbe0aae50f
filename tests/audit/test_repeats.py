"""Who has no right to anything cannot fill the audit: the first refusal of a minute is an event, the rest a number."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from fhir_server.app import create_app
from fhir_server.audit import journal
from fhir_server.audit.events import Event
from fhir_server.audit.recorder import DurableRecorder
from fhir_server.audit.repeats import REFUSED, SERVED, SOURCES, WINDOW_US, Repeats
from fhir_server.audit.running import start
from fhir_server.authorize import EVERYTHING
from fhir_server.errors import Busy
from fhir_server.resources import validate
from smart_auth.limits import network
from tests.audit.conftest import GRANT, MASTER, OneGate, World, make_server, reference
from tests.support.http import Client

SECOND = 1_000_000


def stranger(world: World, address: str) -> Client:
    """A client without a token at a network address."""
    application = create_app(world.server, gate=OneGate(EVERYTHING, GRANT))

    def from_there(environ: dict[str, Any], start_response: Any) -> Any:
        return application({**environ, "REMOTE_ADDR": address}, start_response)

    return Client(from_there, world.server)  # type: ignore[arg-type]


def count_of(event: dict[str, Any]) -> str | None:
    details = [one for entity in event["entity"] for one in entity.get("detail", ())]
    return next((one["valueString"] for one in details if one["type"] == "count"), None)


def test_a_flood_without_a_token_is_one_event_and_a_number(world: World) -> None:
    client = stranger(world, "192.0.2.7")
    for number in range(50):
        assert client.get(f"/Patient/p{number}").status == 401
    [first] = world.events()
    assert (first["outcome"], first["outcomeDesc"], count_of(first)) == ("8", "HTTP 401", None)
    assert reference(first)[0] == "Patient/p0"
    world.recorder.settle()
    _, rest = world.events()
    assert validate.validate(rest).errors == []
    assert (rest["outcome"], rest["outcomeDesc"], count_of(rest)) == ("8", "HTTP 401; 49 more", "49")
    assert rest["period"]["start"] <= rest["period"]["end"] == rest["recorded"]
    assert rest["agent"][0]["network"]["address"] == "192.0.2.7"
    assert reference(rest) == []
    assert "Patient" not in str(rest)
    assert world.verify().findings == []


def test_sources_and_reasons_are_told_apart(world: World) -> None:
    for address in ("192.0.2.1", "192.0.2.2"):
        client = stranger(world, address)
        for _ in range(3):
            client.get("/Patient")
            client.get("/metadata?_format=nonsense")
    world.recorder.settle()
    found = Counter((event["agent"][0]["network"]["address"], event["outcomeDesc"]) for event in world.events())
    assert found == Counter(
        {
            (address, said): 1
            for address in ("192.0.2.1", "192.0.2.2")
            for said in ("HTTP 401", "HTTP 401; 2 more", "HTTP 406", "HTTP 406; 2 more")
        }
    )


def test_refusals_of_somebody_who_is_known_are_events_of_their_own(world: World) -> None:
    client = world.client()
    for number in range(5):
        client.get(f"/Patient/absent{number}")
    assert len(world.events()) == 5


def test_the_end_of_a_worker_records_what_it_counted(world: World, tmp_path: Path) -> None:
    audit = start(lambda: make_server(world.open_store()), [MASTER], tmp_path / "audit")
    world.server.recorder = audit.recorder
    client = stranger(world, "192.0.2.7")
    for _ in range(4):
        client.get("/Patient")
    audit.stop()
    assert [count_of(event) for event in world.events()] == [None, "3"]


def event(at: int, address: str = "192.0.2.1", **values: Any) -> Event:
    return Event(at=at, action="request", address=address, outcome=8, status=401, **values)


@pytest.fixture
def recorder(tmp_path: Path) -> Any:
    made = DurableRecorder(tmp_path, source_of=network)
    yield made
    made.close()


def recorded(recorder: DurableRecorder) -> list[Event]:
    return journal.read(recorder.journal, 0, 100_000).events


def test_the_next_minute_begins_with_an_event_of_its_own(recorder: DurableRecorder) -> None:
    for second in (0, 1, 59, 60, 61):
        recorder.tally(event(second * SECOND))
    assert [(one.at // SECOND, one.count, one.since // SECOND) for one in recorded(recorder)] == [
        (0, 1, 0),
        (59, 2, 1),
        (60, 1, 0),
    ]
    recorder.settle(100 * SECOND)
    assert len(recorded(recorder)) == 3
    recorder.settle(120 * SECOND)
    assert (recorded(recorder)[-1].count, recorded(recorder)[-1].since) == (1, 61 * SECOND)
    recorder.settle()
    assert len(recorded(recorder)) == 4


def test_a_clock_that_is_put_back_ends_a_minute(recorder: DurableRecorder) -> None:
    for second in (3600, 3601, 10):
        recorder.tally(event(second * SECOND))
    assert [one.at // SECOND for one in recorded(recorder)] == [3600, 3601, 10]


def test_an_ipv6_subscriber_is_one_source(recorder: DurableRecorder) -> None:
    for number in range(20):
        recorder.tally(event(number, f"2001:db8::{number:x}"))
    recorder.settle()
    first, rest = recorded(recorder)
    assert (first.address, rest.address, rest.count) == ("2001:db8::0", "2001:db8::/64", 19)


def test_a_first_that_cannot_be_kept_is_refused_and_the_next_is_first(
    recorder: DurableRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(events: Any) -> None:
        raise Busy("The audit cannot be written now.")

    with monkeypatch.context() as broken:
        broken.setattr(recorder._journal, "append", full)
        with pytest.raises(Busy):
            recorder.tally(event(1))
    recorder.tally(event(2))
    recorder.tally(event(3))
    with monkeypatch.context() as broken:
        broken.setattr(recorder._journal, "append", full)
        with pytest.raises(Busy):
            recorder.settle()
    recorder.settle()
    assert [(one.at, one.count) for one in recorded(recorder)] == [(2, 1), (3, 1)]


def test_neither_many_sources_nor_many_kinds_fill_the_audit(recorder: DurableRecorder) -> None:
    for number in range(3 * SOURCES):
        recorder.tally(event(number, f"10.0.{number // 256}.{number % 256}"))
    for number in range(10 * REFUSED):
        recorder.tally(event(number, detail={"why": str(number)}, account=f"a{number}"))
    recorder.settle()
    found = recorded(recorder)
    assert sum(one.count for one in found) == 3 * SOURCES + 10 * REFUSED
    assert len(found) <= SOURCES + 2 + REFUSED + 2
    beyond = [one for one in found if one.count > REFUSED]
    assert {(one.address, one.account, one.detail == {}) for one in beyond} == {("", None, True)}


def test_what_is_served_has_a_wider_bound(recorder: DurableRecorder) -> None:
    for number in range(SERVED + 10):
        recorder.tally(Event(at=number, action="introspect", client="app", detail={"grant": str(number)}))
    assert len(recorded(recorder)) == SERVED + 1


@given(
    some.lists(
        some.tuples(
            some.integers(0, 3 * WINDOW_US),
            some.sampled_from(["a", "b", "c"]),
            some.sampled_from([401, 429]),
            some.sampled_from(["", "x"]),
        )
    )
)
def test_nothing_is_lost_and_each_first_is_recorded(asked: list[tuple[int, str, int, str]]) -> None:
    repeats = Repeats(str)
    kept: list[Event] = []
    for at, address, status, why in sorted(asked):
        one = Event(at=at, action="request", address=address, status=status, detail={"why": why})
        over = repeats.over(at)
        assert repeats.due(at) == bool(over)
        kept += [found for found in map(repeats.summary, over) if found is not None]
        repeats.end(over)
        if not repeats.repeated(one):
            kept.append(one)
            repeats.begin(one)
    assert {(one.address, one.status, one.detail["why"]) for one in kept} == {found[1:] for found in asked}
    over = repeats.over(None)
    kept += [found for found in map(repeats.summary, over) if found is not None]
    repeats.end(over)
    assert Counter(found[1:] for found in asked) == sum(
        (Counter({(one.address, one.status, one.detail["why"]): one.count}) for one in kept), Counter()
    )
    assert repeats._counted == repeats._kinds == repeats._sources == {}
    assert not repeats.due(None)
