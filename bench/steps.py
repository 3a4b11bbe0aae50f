"""The measured steps: what is sent, and what a right answer looks like. Every answer's status and number of hits is
checked.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import chain, islice
from typing import Any

from bench.corpus import CODES, CONDITIONS, FAMILIES, FIRST_DAY, MRN, Corpus
from bench.driver import Request, Result, Target, run

Check = Callable[[bytes], str | None]


@dataclass(slots=True)
class Loaded:
    """What the server holds after the load: the ids that it gave, in corpus order."""

    corpus: Corpus
    practitioners: list[str] = field(default_factory=list)
    patients: list[str] = field(default_factory=list)
    observations: list[str] = field(default_factory=list)
    resources: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """A row of the table. `requests` makes as many as are wanted; `target` is the goal in requests/s on the embedded
    store.
    """

    name: str
    requests: Callable[[Target, Loaded, random.Random], Iterator[Request]]
    target: float | None = None
    connections: int = 8


def hits(matches: int, includes: tuple[int, int] | None = None, total: int | None = None) -> Check:
    """Checks a searchset by counting markers in its bytes; a whole parse would cost more than the server's own work."""

    def check(body: bytes) -> str | None:
        found = len(_MATCH.findall(body))
        if found != matches:
            return f"{found} matches instead of {matches}"
        if includes is not None:
            more = len(_INCLUDE.findall(body))
            if not includes[0] <= more <= includes[1]:
                return f"{more} included instead of {includes[0]} to {includes[1]}"
        if total is not None:
            named = _TOTAL.search(body)
            if named is None or int(named.group(1)) != total:
                return "wrong total"
        return None

    return check


_MATCH = re.compile(rb'"mode"\s*:\s*"match"')
_INCLUDE = re.compile(rb'"mode"\s*:\s*"include"')
_TOTAL = re.compile(rb'"total"\s*:\s*(\d+)')


def holds(text: bytes) -> Check:
    """Checks that the body contains `text`."""
    return lambda body: None if text in body else "another resource than asked for"


def load(target: Target, corpus: Corpus, connections: int, first: int, last: int, loaded: Loaded) -> Result:
    """Sends the patients [first, last) as transactions and notes the ids of the answers."""
    if not loaded.practitioners:
        answer: list[bytes] = []
        body = json.dumps(corpus.practitioners()).encode()
        done = run(target, iter([target.send("POST", "", body, (200,))]), 1, collect=answer.append)
        if done.wrong:
            raise SystemExit(f"The server refused the practitioners: {done.faults} {answer[0][:500]!r}")
        loaded.practitioners = [_reference(entry) for entry in json.loads(answer[0])["entry"]]
        loaded.resources += len(loaded.practitioners)
    bodies = [json.dumps(corpus.bundle(number, loaded.practitioners)).encode() for number in range(first, last)]
    answers: list[bytes] = []
    result = run(
        target, (target.send("POST", "", body, (200,)) for body in bodies), connections, collect=answers.append
    )
    for answer_body in answers:
        entries = json.loads(answer_body).get("entry", [])
        if not entries:
            continue
        references = [_reference(entry) for entry in entries]
        loaded.patients.append(references[0])
        loaded.observations.extend(reference for reference in references if reference.startswith("Observation/"))
        loaded.resources += len(references)
    return result


def _reference(entry: dict[str, Any]) -> str:
    parts = entry["response"]["location"].split("/_history/")[0].split("/")
    return f"{parts[-2]}/{parts[-1]}"


def _forever(make: Callable[[], Request]) -> Iterator[Request]:
    while True:
        yield make()


def _simple(
    make: Callable[[Target, Loaded, random.Random], Request],
) -> Callable[[Target, Loaded, random.Random], Iterator[Request]]:
    return lambda target, loaded, chance: _forever(lambda: make(target, loaded, chance))


def _read(target: Target, loaded: Loaded, chance: random.Random) -> Request:
    reference = chance.choice(loaded.observations)
    return target.get(reference, holds(reference.split("/")[1].encode()))


def _vread(target: Target, loaded: Loaded, chance: random.Random) -> Request:
    reference = chance.choice(loaded.observations)
    return target.get(reference + "/_history/1", holds(reference.split("/")[1].encode()))


def _token(target: Target, loaded: Loaded, chance: random.Random) -> Request:
    number = chance.randrange(loaded.corpus.patients)
    return target.get(f"Patient?identifier={MRN}|M{number:07d}", hits(1))


def _string(target: Target, loaded: Loaded, chance: random.Random) -> Request:
    family = chance.randrange(len(FAMILIES))
    matches = len(range(family, loaded.corpus.patients, len(FAMILIES)))
    return target.get(f"Patient?family={FAMILIES[family][:5].lower()}&_count=50", hits(min(50, matches)))


def _date(target: Target, loaded: Loaded, chance: random.Random) -> Request:
    day = FIRST_DAY + timedelta(days=chance.randrange(loaded.corpus.observation_days))
    after = day + timedelta(days=1)
    return target.get(f"Observation?date=ge{day}T00:00:00Z&date=lt{after}T00:00:00Z", hits(15))


def _reference_6(target: Target, loaded: Loaded, chance: random.Random) -> Request:
    return target.get(f"Condition?subject={chance.choice(loaded.patients)}", hits(6))


def _reference_52(target: Target, loaded: Loaded, chance: random.Random) -> Request:
    return target.get(f"Observation?subject={chance.choice(loaded.patients)}&_count=100", hits(52))


def _reference_token(target: Target, loaded: Loaded, chance: random.Random) -> Request:
    code = chance.choice(CODES)[0]
    return target.get(f"Observation?subject={chance.choice(loaded.patients)}&code=http://loinc.org|{code}", hits(4))


def _chain(target: Target, loaded: Loaded, chance: random.Random) -> Request:
    number = chance.randrange(loaded.corpus.patients)
    code = chance.choice(CODES)[0]
    return target.get(
        f"Observation?subject:Patient.identifier={MRN}|M{number:07d}&code=http://loinc.org|{code}", hits(4)
    )


def _include(target: Target, loaded: Loaded, chance: random.Random) -> Request:
    return target.get(
        f"Encounter?subject={chance.choice(loaded.patients)}&_include=Encounter:participant", hits(8, includes=(1, 5))
    )


def _revinclude(target: Target, loaded: Loaded, chance: random.Random) -> Request:
    number = chance.randrange(loaded.corpus.patients)
    return target.get(f"Patient?identifier={MRN}|M{number:07d}&_revinclude=Condition:subject", hits(1, includes=(6, 6)))


def _has(target: Target, loaded: Loaded, chance: random.Random) -> Request:
    code = chance.choice(CONDITIONS)[0]
    family = chance.choice(FAMILIES)
    return target.get(f"Patient?family={family}&_has:Condition:subject:code=http://snomed.info/sct|{code}")


def _total(target: Target, loaded: Loaded, chance: random.Random) -> Request:
    code = chance.choice(CODES)[0]
    matches = loaded.corpus.patients * 4
    return target.get(
        f"Observation?code=http://loinc.org|{code}&_total=accurate&_count=10", hits(min(10, matches), total=matches)
    )


def _sorted(target: Target, loaded: Loaded, chance: random.Random) -> Request:
    code = chance.choice(CODES)[0]
    return target.get(f"Observation?code=http://loinc.org|{code}&_sort=-date&_count=20", hits(20))


def _count(target: Target, loaded: Loaded, chance: random.Random) -> Request:
    code = chance.choice(CODES)[0]
    return target.get(
        f"Observation?code=http://loinc.org|{code}&_summary=count", hits(0, total=loaded.corpus.patients * 4)
    )


def _new_observation(loaded: Loaded, chance: random.Random) -> dict[str, Any]:
    # Dated outside the corpus and with a code of its own, so that later steps still know their numbers of hits.
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "http://bench.example.org/code", "code": "written", "display": "Written"}]},
        "performer": [{"reference": chance.choice(loaded.practitioners)}],
        "effectiveDateTime": f"2031-{chance.randrange(1, 13):02d}-{chance.randrange(1, 29):02d}T10:00:00Z",
        "valueQuantity": {
            "value": chance.randrange(1, 999),
            "unit": "1",
            "system": "http://unitsofmeasure.org",
            "code": "1",
        },
    }


def _create(target: Target, loaded: Loaded, chance: random.Random) -> Request:
    return target.send("POST", "Observation", json.dumps(_new_observation(loaded, chance)).encode(), (201,))


def _updates(target: Target, loaded: Loaded, chance: random.Random) -> Iterator[Request]:
    """Each of 400 resources of our own is updated in turn with the version that it must have."""
    ids = [f"bench-{chance.randrange(10**9):09d}-{number}" for number in range(400)]
    versions = dict.fromkeys(ids, 0)

    def one(resource_id: str) -> Request:
        body = json.dumps({**_new_observation(loaded, chance), "id": resource_id}).encode()
        version = versions[resource_id]
        versions[resource_id] = version + 1
        header = f'If-Match: W/"{version}"\r\n' if version else ""
        return target.send("PUT", f"Observation/{resource_id}", body, (200,) if version else (201,), header)

    prepared = run(target, (one(resource_id) for resource_id in ids), 1)
    if prepared.wrong:
        raise SystemExit(f"The server refused what the update step needs: {prepared.faults}")
    while True:
        yield from (one(resource_id) for resource_id in ids)


def _mixed(target: Target, loaded: Loaded, chance: random.Random) -> Iterator[Request]:
    reads = (_read, _read, _token, _reference_6, _reference_token, _date, _string, _vread)
    while True:
        yield _create(target, loaded, chance) if chance.random() < 0.2 else chance.choice(reads)(target, loaded, chance)


STEPS: tuple[Step, ...] = (
    Step("read", _simple(_read), 26_000),
    Step("vread", _simple(_vread)),
    Step("token (identifier)", _simple(_token), 14_100),
    Step("string prefix, 15 hits", _simple(_string), 3_000),
    Step("date window, 15 hits", _simple(_date), 3_000),
    Step("reference, 6 hits", _simple(_reference_6), 5_100),
    Step("reference, 52 hits", _simple(_reference_52), 2_500),
    Step("reference + token", _simple(_reference_token), 3_000),
    Step("chain + token", _simple(_chain), 2_000),
    Step("_include, 8 + up to 5", _simple(_include), 1_900),
    Step("_revinclude, 1 + 6", _simple(_revinclude), 3_900),
    Step("_has", _simple(_has), 3_000),
    Step("_total=accurate", _simple(_total), 2_500),
    Step("sorted pages of 20", _simple(_sorted), 1_500),
    Step("_summary=count", _simple(_count)),
    Step("create", _simple(_create), 1_300),
    Step("update with If-Match", _updates, 1_200),
    Step("mixed 80/20", _mixed, 2_500),
)


def measure(step: Step, target: Target, loaded: Loaded, seconds: float, seed: int = 1) -> Result:
    """Runs one step for about `seconds`, after a short warm-up that is not counted."""
    chance = random.Random(seed)
    requests = step.requests(target, loaded, chance)
    first = next(requests)  # lets a step prepare itself outside the measurement
    run(target, islice(chain([first], requests), 100), step.connections)
    return run(target, requests, step.connections, seconds=seconds)


__all__ = ["Loaded", "STEPS", "Step", "load", "measure"]
