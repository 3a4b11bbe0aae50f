"""Verification of the chains: what was changed, removed, put in or cut off since it was written."""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from fhir_server.audit import chain
from fhir_server.audit.chain import Head, Key, Place
from fhir_server.storage.protocol import Store
from fhir_server.storage.writes import Stored
from fhir_server.writing import parse_body

JSON = dict[str, Any]

_PAGE: Final = 500


@dataclass(slots=True)
class Report:
    """What was found: `findings` as sentences, and how much was looked at."""

    findings: list[str] = field(default_factory=list)
    events: int = 0
    chains: int = 0
    anchors: int = 0
    others: int = 0
    """AuditEvents that clients sent, which are in no chain."""


@dataclass(slots=True)
class _Walk:
    """How far a chain was followed, and the hash of each place that something else vouches for."""

    sequence: int = 0
    hash: str = chain.START
    vouched: dict[int, str] = field(default_factory=dict)


def verify(store: Store, keys: Sequence[Key], anchors_file: Path | None = None) -> Report:
    """Walks every chain of a store, also while it is written to.

    `anchors_file`: the anchors that were kept outside of the store. An attacker who has the database and not the key
    can take away only what came after the last anchor, and only if the file says nothing else.
    """
    return _Verification(store, keys).run(anchors_file)


class _Verification:
    def __init__(self, store: Store, keys: Sequence[Key]) -> None:
        self._store = store
        self._keys = {key.id: key for key in keys}
        self._report = Report()
        self._walks: dict[str, _Walk] = {}

    def run(self, anchors_file: Path | None) -> Report:
        report = self._report
        anchors = self._anchors(anchors_file)
        heads = self._heads()
        expected = {**anchors, **heads}
        for one, head in anchors.items():
            if one not in heads:
                self._say(f"Chain {one}: its head is missing, although an anchor knows it.")
            elif heads[one].sequence < head.sequence:
                self._say(f"Chain {one}: its head was set back from {head.sequence} to {heads[one].sequence}.")
                expected[one] = head
        vouched: dict[str, dict[int, str]] = {one: {head.sequence: head.hash} for one, head in expected.items()}
        for one, head in anchors.items():
            vouched[one].setdefault(head.sequence, head.hash)
        for stored in self._events():
            self._event(stored, expected, vouched)
        for one, head in sorted(expected.items()):
            walk = self._walks.get(one, _Walk())
            if walk.sequence < head.sequence:
                missing = _events(walk.sequence + 1, head.sequence)
                self._say(f"Chain {one}: {missing} at its end {_are(head.sequence - walk.sequence)} missing.")
        report.chains = len({*expected, *self._walks})
        return report

    def _say(self, finding: str) -> None:
        self._report.findings.append(finding)

    # --- anchors and heads --------------------------------------------------------------------------------------------

    def _anchors(self, path: Path | None) -> dict[str, Head]:
        """The newest head of each chain that an anchor of the store or of the file knows.

        What points to anchors is read before the anchors: these grow meanwhile.
        """
        lines = path.read_bytes().split(b"\n") if path is not None and path.exists() else []
        last = self._store.get_meta(chain.LAST_ANCHOR)
        heads: dict[str, Head] = {}
        previous, number = chain.START, 0
        stored: dict[int, str] = {}
        for _, record in chain.anchors(self._store):
            number += 1
            self._report.anchors += 1
            if not isinstance(record, dict) or not chain.is_genuine(record, self._keys):
                self._say(f"Anchor {number} was changed, or made with a key that is not known here.")
                previous = str(record.get("hash")) if isinstance(record, dict) else ""
                continue
            if record["number"] != number or record["previous"] != previous:
                self._say(f"The anchors before number {record['number']} are not whole.")
                number = record["number"]
            previous = record["hash"]
            stored[record["number"]] = record["hash"]
            self._advance(heads, record)
        if last is None and number:
            last = self._store.get_meta(chain.LAST_ANCHOR)  # the first one may be of this very moment
        if (last is None and number) or (last is not None and stored.get(last["number"]) != last["hash"]):
            self._say("The record of the last anchor does not lead to it.")
        self._compare(path.name if path is not None else "", lines, stored, heads)
        return heads

    def _compare(self, name: str, lines: list[bytes], stored: dict[int, str], heads: dict[str, Head]) -> None:
        """The anchors of the file have to be in the store. A last line may be unfinished."""
        for index, line in enumerate(lines[:-1], 1):
            try:
                record = msgspec.json.decode(line)
            except msgspec.MsgspecError:
                record = None
            if not isinstance(record, dict) or not chain.is_genuine(record, self._keys):
                self._say(f"Line {index} of {name} was changed, or is of another store's key.")
                continue
            if stored.get(record["number"]) != record["hash"]:
                self._say(f"Anchor {record['number']} of {name} is not in the store, or another one there.")
                self._advance(heads, record)

    @staticmethod
    def _advance(heads: dict[str, Head], record: JSON) -> None:
        for one, value in record["heads"].items():
            head = Head.of(value)
            if one not in heads or heads[one].sequence < head.sequence:
                heads[one] = head

    def _heads(self) -> dict[str, Head]:
        return {
            key.removeprefix(chain.HEADS): Head.of(record)
            for key, record in self._store.meta_items(chain.HEADS).items()
            if record is not None
        }

    # --- events -------------------------------------------------------------------------------------------------------

    def _events(self) -> Iterator[Stored]:
        after = ""
        while True:
            page = self._store.scan(after=after, types=["AuditEvent"], limit=_PAGE)
            yield from page
            if len(page) < _PAGE:
                return
            after = page[-1].address

    def _event(self, stored: Stored, heads: dict[str, Head], vouched: dict[str, dict[int, str]]) -> None:
        report = self._report
        if stored.version != 1:
            self._say(f"{stored.address} was changed: it has {stored.version} versions.")
        assert stored.body is not None
        resource = parse_body(stored.body)
        try:
            place = chain.place(resource)
        except ValueError:
            self._say(f"{stored.address}: its place in the chain cannot be read.")
            return
        if place is None:
            report.others += 1
            return
        report.events += 1
        if place.chain not in heads:
            # The chain may have begun after the heads were read.
            head = self._store.get_meta(chain.HEADS + place.chain)
            if head is None:
                self._say(f"{stored.address} belongs to a chain that does not exist.")
                return
            heads[place.chain] = Head.of(head)
            vouched[place.chain] = {}
        if resource.get("id") != stored.id or stored.id != chain.event_id(place.chain, place.sequence):
            self._say(f"{stored.address} is not where it belongs.")
            return
        self._follow(stored, resource, place, heads[place.chain], vouched[place.chain])

    def _follow(self, stored: Stored, resource: JSON, place: Place, head: Head, vouched: dict[int, str]) -> None:
        walk = self._walks.setdefault(place.chain, _Walk())
        key = self._keys.get(head.key)
        if key is None:
            if walk.sequence == 0:
                self._say(f"Chain {place.chain} was made with a key that is not known here.")
        elif not hmac.compare_digest(key.sign(place.previous, chain.signed(resource)), place.hash):
            self._say(f"{stored.address} was changed.")
        if place.sequence != walk.sequence + 1:
            missing = place.sequence - walk.sequence - 1
            self._say(f"Chain {place.chain}: {_events(walk.sequence + 1, place.sequence - 1)} {_are(missing)} missing.")
        elif place.previous != walk.hash:
            self._say(f"{stored.address} does not follow the event before it.")
        if vouched.get(place.sequence, place.hash) != place.hash:
            self._say(f"{stored.address} is not the event that the head or an anchor of its chain knows.")
        walk.sequence, walk.hash = place.sequence, place.hash


def _events(first: int, last: int) -> str:
    return f"event {first}" if first == last else f"events {first} to {last}"


def _are(number: int) -> str:
    return "is" if number == 1 else "are"
