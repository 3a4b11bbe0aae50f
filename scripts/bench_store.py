"""Measures a store alone: microseconds per operation and bytes per resource, over synthetic documents with realistic
entries.

    python scripts/bench_store.py --sizes 5000 21000
    python scripts/bench_store.py --sizes 200000 --keep /some/directory

One patient is 70 resources: the patient, 8 encounters, 51 observations, 10 conditions. Writes go in bundles of 70.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fhir_server.search.ast import (
    ANY,
    AllOf,
    And,
    AnyOf,
    Compare,
    Exists,
    Include,
    Linked,
    LinkedFrom,
    Not,
    Search,
    Select,
    SortKey,
    Test,
)
from fhir_server.storage.protocol import HistoryQuery, Store, Transaction
from fhir_server.storage.sqlite import open_store
from fhir_server.storage.writes import Document, KeyEntry, RangeEntry, Version

PER_PATIENT = 70
DAY = 86_400_000_000
HOUR = 3_600_000_000
LOINC = "\x1fhttp://loinc.org"
CODES = [f"{1000 + 37 * n}-{n % 10}" for n in range(120)]
FAMILIES = [
    f"{a}{b}{c}"
    for a in ("mul", "wal", "abd", "chr", "ste", "hag", "lin", "sch")
    for b in ("la", "te", "ri", "no", "bu")
    for c in ("r", "rson", "nn", "", "ck", "mann", "wicz", "do")
]
GIVEN = [
    f"{a}{b}"
    for a in ("an", "be", "ca", "do", "el", "fr", "ga", "ha", "is", "jo")
    for b in ("na", "rt", "mil", "ra", "lia")
]


def params(type_number: int, *names: str) -> dict[str, int]:
    """Numbers for the params of one type."""
    return {name: (type_number * 40 + index) * 16 for index, name in enumerate(names)}


PATIENT = params(
    1,
    "name",
    "family",
    "given",
    "gender",
    "birthdate",
    "identifier",
    "address",
    "address-city",
    "address-state",
    "address-country",
    "address-postalcode",
    "telecom",
    "phone",
    "language",
    "phonetic",
    "deceased",
)
ENCOUNTER = params(
    2,
    "status",
    "class",
    "type",
    "subject",
    "patient",
    "date",
    "participant",
    "service-provider",
    "identifier",
    "reason-code",
    "length",
    "location-period",
)
OBSERVATION = params(
    3,
    "status",
    "category",
    "code",
    "combo-code",
    "subject",
    "patient",
    "encounter",
    "date",
    "value-quantity",
    "combo-value-quantity",
    "code-value-quantity",
    "combo-code-value-quantity",
    "code-value-date",
)
CONDITION = params(
    4,
    "clinical-status",
    "verification-status",
    "category",
    "code",
    "subject",
    "patient",
    "encounter",
    "onset-date",
    "recorded-date",
)


def number_key(value: float) -> str:
    """Something of the length and order of the keys of decimals."""
    return f"8{value * 1000:012.0f}"


class Corpus:
    """Deterministic bundles of one patient each."""

    def __init__(self, seed: int = 1) -> None:
        self.random = random.Random(seed)
        self.patients: list[str] = []
        self.identifiers: list[str] = []
        self.observations: list[str] = []
        self.dates: list[int] = []

    def new_id(self) -> str:
        """A UUID from the corpus' own random numbers."""
        return str(uuid.UUID(int=self.random.getrandbits(128), version=4))

    def body(self, type: str, id: str, keys: list[KeyEntry]) -> bytes:
        """JSON that compresses about as resources do: 500 to 700 bytes."""
        filler = "".join(self.random.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=460))
        resource = {
            "resourceType": type,
            "id": id,
            "meta": {"versionId": "1"},
            "keys": [key for _, key in keys],
            "text": filler,
        }
        return gzip.compress(json.dumps(resource).encode(), 1, mtime=0)

    def bundle(self, now: int) -> list[Version]:
        """One patient's resources as first versions."""
        rng = self.random
        versions: list[Version] = []

        def add(type: str, id: str, keys: list[KeyEntry], ranges: list[RangeEntry]) -> None:
            versions.append(
                Version(
                    type, id, 1, now, "POST", self.body(type, id, keys), (Document(f"{type}/{id}", type, keys, ranges),)
                )
            )

        patient = self.new_id()
        me = f"Patient/{patient}"
        family, given = rng.choice(FAMILIES), rng.choice(GIVEN)
        city = f"city {rng.randrange(200)}"
        p = PATIENT
        identifiers = [f"{rng.getrandbits(40)}\x1fhttp://hospital.example/{kind}" for kind in ("mrn", "ssn", "dl")]
        born = -rng.randrange(80 * 365) * DAY
        add(
            "Patient",
            patient,
            [
                *((p["identifier"], one) for one in identifiers),
                (p["name"], family),
                (p["name"], given),
                (p["name"], "mr"),
                (p["family"], family),
                (p["given"], given),
                (p["gender"], f"{rng.choice(('male', 'female'))}\x1fhttp://hl7.org/fhir/administrative-gender"),
                (p["address"], city),
                (p["address"], "massachusetts"),
                (p["address"], "us"),
                (p["address-city"], city),
                (p["address-state"], "massachusetts"),
                (p["address-country"], "us"),
                (p["address-postalcode"], f"{rng.randrange(3000)}"),
                (p["telecom"], f"555-{rng.randrange(10**7)}\x1fphone"),
                (p["phone"], f"555-{rng.randrange(10**7)}\x1fphone"),
                (p["language"], "en\x1furn:ietf:bcp:47"),
                (p["phonetic"], family[:3]),
                (p["phonetic"], given[:3]),
            ],
            [(p["birthdate"], "0", born, born + DAY, "")],
        )
        encounters = []
        e = ENCOUNTER
        for _ in range(8):
            encounter = self.new_id()
            at = rng.randrange(10 * 365) * DAY + rng.randrange(86_400) * 1_000_000
            encounters.append((encounter, at))
            add(
                "Encounter",
                encounter,
                [
                    (e["status"], "finished\x1fhttp://hl7.org/fhir/encounter-status"),
                    (
                        e["class"],
                        f"{rng.choice(('amb', 'emer', 'imp'))}\x1fhttp://terminology.hl7.org/CodeSystem/v3-ActCode",
                    ),
                    (e["type"], f"{rng.randrange(40)}\x1fhttp://snomed.info/sct"),
                    (e["subject"], me),
                    (e["patient"], me),
                    (e["participant"], f"Practitioner/{rng.randrange(100)}"),
                    (e["service-provider"], f"Organization/{rng.randrange(30)}"),
                    (e["identifier"], f"{encounter}\x1furn:ietf:rfc:3986"),
                ],
                [(e["date"], "0", at, at + HOUR, ""), (e["location-period"], "0", at, at + HOUR, "")],
            )
        o = OBSERVATION
        self.patients.append(patient)
        self.identifiers.append(identifiers[0])
        for _ in range(51):
            encounter, at = rng.choice(encounters)
            observation = self.new_id()
            self.observations.append(observation)
            self.dates.append(at)
            code = CODES[int(rng.random() ** 2 * len(CODES))] + LOINC
            value = number_key(rng.randrange(2000) / 10)
            high = value + "0"
            unit = f"{rng.choice(('mm[Hg]', '/min', 'kg', 'cm', 'Cel'))}\x1fhttp://unitsofmeasure.org\x1funit"
            add(
                "Observation",
                observation,
                [
                    (o["status"], "final\x1fhttp://hl7.org/fhir/observation-status"),
                    (
                        o["category"],
                        f"{rng.choice(('vital-signs', 'laboratory'))}\x1fhttp://terminology.hl7.org/CodeSystem/observation-category",
                    ),
                    (o["code"], code),
                    (o["code"] + 1, f"text of {code}"),
                    (o["combo-code"], code),
                    (o["combo-code"] + 1, f"text of {code}"),
                    (o["subject"], me),
                    (o["patient"], me),
                    (o["encounter"], f"Encounter/{encounter}"),
                ],
                [
                    (o["date"], "0", at, at + 1000, ""),
                    (o["value-quantity"], "=", value, high, unit),
                    (o["combo-value-quantity"], "=", value, high, unit),
                    (o["code-value-quantity"], f"{code}\x1d=", value, high, unit),
                    (o["combo-code-value-quantity"], f"{code}\x1d=", value, high, unit),
                ],
            )
        c = CONDITION
        for _ in range(10):
            encounter, at = rng.choice(encounters)
            condition = self.new_id()
            code = f"{rng.randrange(300)}\x1fhttp://snomed.info/sct"
            add(
                "Condition",
                condition,
                [
                    (c["clinical-status"], "active\x1fhttp://terminology.hl7.org/CodeSystem/condition-clinical"),
                    (
                        c["verification-status"],
                        "confirmed\x1fhttp://terminology.hl7.org/CodeSystem/condition-ver-status",
                    ),
                    (c["category"], "encounter-diagnosis\x1fhttp://terminology.hl7.org/CodeSystem/condition-category"),
                    (c["code"], code),
                    (c["code"] + 1, f"text of {code}"),
                    (c["subject"], me),
                    (c["patient"], me),
                    (c["encounter"], f"Encounter/{encounter}"),
                ],
                [(c["onset-date"], "0", at, at + 1000, ""), (c["recorded-date"], "0", at, at + 1000, "")],
            )
        return versions


# --- operations -------------------------------------------------------------------------------------------------------


def equals(param: int, key: str) -> Exists:
    """One token."""
    return Exists((param,), "key", Compare("key", "=", key))


def window(param: int, low: int, high: int) -> Exists:
    """A date window in the three width classes, as resolve.py writes it."""

    def branch(key: str, width: int) -> Test:
        return AllOf(
            (
                Compare("key", "=", key),
                Compare("low", ">", low - width),
                Compare("low", "<", high),
                Compare("high", ">", low),
            )
        )

    return Exists(
        (param,),
        "range",
        AnyOf(
            (
                branch("0", 25 * HOUR),
                branch("1", 366 * DAY),
                AllOf((Compare("key", "=", "2"), Compare("low", "<", high), Compare("high", ">", low))),
            )
        ),
    )


def operations(store: Store, corpus: Corpus) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Name and one call of each measured operation."""
    rng = random.Random(7)
    choose = rng.choice
    p, o, e = PATIENT, OBSERVATION, ENCOUNTER
    patient, observation = Select(("Patient",)), Select(("Observation",))

    def select(type: str, where: Any, **more: Any) -> Callable[[], Any]:
        return lambda: store.search(Search(Select((type,), where() if callable(where) else where), **more))

    def me() -> str:
        return f"Patient/{choose(corpus.patients)}"

    size = len(corpus.observations)
    span = int(10 * 365 * DAY * 15 / size)
    common, rare = CODES[0] + LOINC, CODES[-1] + LOINC

    def date_window() -> Exists:
        low = choose(corpus.dates)
        return window(o["date"], low, low + span)

    # A name prefix of about 15 patients, a code of about 1,200 observations
    by_family = sorted(FAMILIES)
    length = 3
    per_prefix = len(corpus.patients) / 8
    while per_prefix > 20 and length < 7:
        length += 1
        per_prefix /= 5 if length == 5 else 3
    yield "read", lambda: store.read("Observation", choose(corpus.observations))
    yield "vread", lambda: store.read_version("Observation", choose(corpus.observations), 1)
    yield "token, 1 hit (identifier)", select("Patient", lambda: equals(p["identifier"], choose(corpus.identifiers)))
    yield (
        f"string prefix of {length}",
        select(
            "Patient",
            lambda: Exists((p["name"],), "key", Compare("key", "prefix", (choose(by_family) + "zzz")[:length])),
        ),
    )
    yield (
        "string contains",
        select("Patient", lambda: Exists((p["name"],), "key", Compare("key", "has", choose(by_family)[1:5]))),
    )
    yield "date window, 15 hits", select("Observation", date_window)
    yield "reference, 51 hits", select("Observation", lambda: equals(o["patient"], me()), count=60)
    yield "reference, 8 hits", select("Encounter", lambda: equals(e["patient"], me()))
    yield (
        "reference + token",
        select("Observation", lambda: And((equals(o["patient"], me()), equals(o["code"], common)))),
    )
    yield (
        "reference + category",
        select(
            "Observation",
            lambda: And(
                (
                    equals(o["patient"], me()),
                    equals(o["category"], "laboratory\x1fhttp://terminology.hl7.org/CodeSystem/observation-category"),
                )
            ),
        ),
    )
    yield "code + date window", select("Observation", lambda: And((equals(o["code"], common), date_window())))
    yield (
        "code + value",
        select(
            "Observation",
            lambda: Exists(
                (o["code-value-quantity"],),
                "range",
                AllOf(
                    (
                        Compare("key", "=", f"{common}\x1d="),
                        Compare("low", ">", number_key(190)),
                    )
                ),
            ),
        ),
    )
    yield (
        "chain (identifier) + token",
        select(
            "Observation",
            lambda: And(
                (
                    Linked((o["patient"],), Select(("Patient",), equals(p["identifier"], choose(corpus.identifiers)))),
                    equals(o["code"], common),
                )
            ),
        ),
    )
    yield (
        "chain (family) + token",
        select(
            "Observation",
            lambda: And(
                (
                    Linked(
                        (o["patient"],),
                        Select(
                            ("Patient",), Exists((p["family"],), "key", Compare("key", "prefix", choose(by_family)))
                        ),
                    ),
                    equals(o["code"], common),
                )
            ),
        ),
    )
    yield (
        "chain (gender) + token",
        select(
            "Observation",
            lambda: And(
                (
                    Linked(
                        (o["patient"],),
                        Select(("Patient",), equals(p["gender"], "male\x1fhttp://hl7.org/fhir/administrative-gender")),
                    ),
                    equals(o["code"], rare),
                )
            ),
        ),
    )
    yield (
        "_has (encounter)",
        select(
            "Patient",
            lambda: LinkedFrom(
                (e["patient"],),
                Select(("Encounter",), window(e["date"], (low := choose(corpus.dates)) - HOUR, low + HOUR)),
            ),
        ),
    )
    yield (
        "_has (rare code)",
        select("Patient", LinkedFrom((o["patient"],), Select(("Observation",), equals(o["code"], rare)))),
    )
    yield (
        "_has (common code)",
        select("Patient", LinkedFrom((o["patient"],), Select(("Observation",), equals(o["code"], common))), count=20),
    )
    yield (
        "_include, 8 + 2",
        select(
            "Encounter",
            lambda: equals(e["patient"], me()),
            includes=(
                Include(("Encounter",), (e["patient"],), patient),
                Include(("Encounter",), (e["participant"],), Select(("Practitioner",))),
            ),
        ),
    )
    yield (
        "_revinclude, 1 + 51",
        select(
            "Patient",
            lambda: equals(p["identifier"], choose(corpus.identifiers)),
            includes=(Include(("Observation",), (o["patient"],), observation, reverse=True),),
        ),
    )
    yield "code, page of 20", select("Observation", equals(o["code"], common), count=20)
    yield "code, page of 20, total", select("Observation", equals(o["code"], common), count=20, total=True)
    yield "code, count only", select("Observation", equals(o["code"], common), count=0)
    yield "type, page of 20, total", select("Encounter", And(()), count=20, total=True)
    yield (
        "code, _sort=-date, page of 20",
        select("Observation", equals(o["code"], common), count=20, sort=(SortKey((o["date"],), "range", True),)),
    )
    yield (
        "rare code, _sort=-date, page of 20",
        select("Observation", equals(o["code"], rare), count=20, sort=(SortKey((o["date"],), "range", True),)),
    )
    yield (
        "type, _sort=date, page of 20",
        select("Observation", And(()), count=20, sort=(SortKey((o["date"],), "range"),)),
    )
    yield (
        "patient, _sort=-date, page of 20",
        select(
            "Observation", lambda: equals(o["patient"], me()), count=20, sort=(SortKey((o["date"],), "range", True),)
        ),
    )
    yield (
        "code, _sort=-_lastUpdated",
        select("Observation", equals(o["code"], common), count=20, sort=(SortKey((), "updated", True),)),
    )
    yield "patients, _sort=family", select("Patient", And(()), count=20, sort=(SortKey((p["family"],), "key"),))
    yield "missing, page of 20", select("Observation", Not(Exists((o["encounter"],), "key", ANY)), count=20)
    yield "history of an instance", lambda: store.history(HistoryQuery("Observation", choose(corpus.observations)))
    yield "history of the system, 20", lambda: store.history(HistoryQuery(count=20))


def measure(call: Callable[[], Any], *, seconds: float) -> tuple[float, float, int, int]:
    """Mean and median microseconds, number of calls, matches of the last call."""
    for _ in range(3):
        result = call()
    times = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        started = time.perf_counter()
        result = call()
        times.append((time.perf_counter() - started) * 1e6)
    matched = getattr(result, "matches", None)
    return statistics.fmean(times), statistics.median(times), len(times), len(matched) if matched is not None else 1


def run(size: int, directory: Path, seconds: float, only: str) -> None:
    """Fills a store of about `size` resources and prints the table."""
    path = directory / f"bench-{size}.db"
    corpus = Corpus()
    fresh = not path.exists()
    store = open_store(path)
    spent, written, entries = 0.0, 0, 0
    for _ in range(max(1, size // PER_PATIENT)):
        versions = corpus.bundle(time.time_ns() // 1_000_000 * 1000)
        if fresh:
            started = time.perf_counter()
            store.transact(lambda transaction, versions=versions: transaction.append(versions))  # type: ignore[misc]
            spent += time.perf_counter() - started
        written += len(versions)
        entries += sum(len(v.documents[0].keys) + len(v.documents[0].ranges) for v in versions)
    bodies = sum(len(v.body or b"") for v in versions) / len(versions)
    print(f"\n{written} resources, {entries / written:.1f} entries and {bodies:.0f} body bytes each")
    if fresh:
        print(f"ingest, bundles of {PER_PATIENT}: {written / spent:,.0f} resources/s")
    store.close()
    store = open_store(path)
    found = store.statistics()
    print(f"{found['bytes'] / found['resources']:,.0f} bytes per resource")
    print(f"{'operation':38} {'mean us':>9} {'median':>9} {'calls/s':>9} {'matches':>8}")
    for name, call in operations(store, corpus):
        if only in name:
            mean, median, _, matched = measure(call, seconds=seconds)
            print(f"{name:38} {mean:9.1f} {median:9.1f} {1e6 / mean:9.0f} {matched:8}")
    if not only:
        newcomers = Corpus(time.time_ns())  # a kept database has the corpus already
        created = [one for _ in range(4) for one in newcomers.bundle(time.time_ns() // 1_000_000 * 1000)]
        started = time.perf_counter()
        for version in created:
            store.transact(lambda transaction, version=version: (transaction.now(), transaction.append([version])))  # type: ignore[misc]
        print(f"create, one by one: {len(created) / (time.perf_counter() - started):,.0f}/s")
        started = time.perf_counter()
        updated = corpus.observations[-200:]
        for id in updated:
            store.transact(lambda transaction, id=id: update(store, transaction, id))  # type: ignore[misc]
        print(f"update, one by one: {len(updated) / (time.perf_counter() - started):,.0f}/s")
    store.close()


def update(store: Store, transaction: Transaction, id: str) -> None:
    """Writes an observation again, with the same entries."""
    current = transaction.read("Observation", id)
    assert current is not None
    keys, ranges, _ = store.entries(current.address)
    document = Document(current.address, "Observation", keys, ranges)
    time_ = max(transaction.now(), current.updated + 1000)
    transaction.append([Version("Observation", id, current.version + 1, time_, "PUT", current.body, (document,))])


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[5000], help="resources in the stores measured")
    parser.add_argument("--seconds", type=float, default=0.5, help="time for each operation")
    parser.add_argument("--keep", type=Path, help="directory for the databases; existing ones are used again")
    parser.add_argument("--only", default="", help="operations whose name contains this")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        for size in options.sizes:
            run(size, options.keep or Path(scratch), options.seconds, options.only)


if __name__ == "__main__":
    main()
