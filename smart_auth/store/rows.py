"""What both stores do alike with records: their text, the fields that are searched, when they have expired."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TypeVar

import msgspec

from smart_auth.records import KINDS, Record
from smart_auth.store.protocol import AuthStore

R = TypeVar("R", bound=Record)

BY_NAME: Final[dict[str, type[Record]]] = {kind.KIND: kind for kind in KINDS}

_decoders: Final[dict[type[Record], msgspec.json.Decoder[Any]]] = {kind: msgspec.json.Decoder(kind) for kind in KINDS}
_encode: Final[Callable[[Any], bytes]] = msgspec.json.Encoder().encode


def table(kind: type[Record]) -> str:
    """Name of the table or collection of a kind."""
    return f"auth_{kind.KIND.replace('-', '_')}"


def columns(kind: type[Record]) -> tuple[str, ...]:
    """Fields that are kept beside the text of a record, because they are unique or searched for."""
    return (*kind.UNIQUE, *kind.INDEXED)


def encode(record: Record) -> bytes:
    """A record as JSON."""
    return _encode(record)


def decode(kind: type[R], text: bytes | str) -> R:
    """The record of a JSON text."""
    record: R = _decoders[kind].decode(text)
    return record


def check_fields(kind: type[Record], names: Iterable[str]) -> None:
    """Raises ValueError for a field that has no index: a search for it would read everything."""
    for name in names:
        if name not in columns(kind):
            raise ValueError(f"`{name}` of {kind.KIND} has no index.")


def expired(record: Record, now: int) -> bool:
    """Whether a record counts as absent."""
    return record.expires_at is not None and record.expires_at <= now


REMEMBERED: Final = 4096
"""Answers of `together` that a store keeps beside the bytes they were read from."""

Wanted = tuple[tuple[type[Record], str], ...]
"""Kinds and ids of records that are asked for together."""


class Together:
    """Records that were read together, and the texts that they were read from."""

    __slots__ = ("_expires_at", "_records", "bodies")

    def __init__(self, wanted: Wanted, bodies: tuple[bytes | None, ...]) -> None:
        self.bodies = bodies
        self._records = tuple(
            [None if body is None else decode(kind, body) for (kind, _), body in zip(wanted, bodies, strict=True)]
        )
        ends = [one.expires_at for one in self._records if one is not None and one.expires_at is not None]
        self._expires_at = min(ends, default=None)

    def at(self, now: int) -> tuple[Record | None, ...]:
        """The records without those that have expired; the same tuple as before while none has."""
        if self._expires_at is None or now < self._expires_at:
            return self._records
        return tuple([None if one is None or expired(one, now) else one for one in self._records])


class Remembered(dict[Wanted, Together]):
    """What was read together, for as long as its texts stay the same; at most REMEMBERED."""

    def read(self, wanted: Wanted, bodies: tuple[bytes | None, ...]) -> Together:
        """The records of some texts: those of before, when the texts are."""
        known = self.get(wanted)
        if known is None or known.bodies != bodies:
            known = Together(wanted, bodies)
            if len(self) >= REMEMBERED:
                self.clear()
            self[wanted] = known
        return known


def dump(store: AuthStore) -> Iterator[Record]:
    """Every record that is worth a backup (`Record.DURABLE`), kind by kind."""
    for kind in KINDS:
        after = ""
        while kind.DURABLE and (page := store.page(kind, after=after)):
            yield from page
            after = page[-1].id


def dump_lines(store: AuthStore) -> Iterator[bytes]:
    """A backup of the durable records: one JSON array ``[kind, record]`` per line, without line ends."""
    for record in dump(store):
        yield b'["' + record.KIND.encode() + b'",' + encode(record) + b"]"


def restore_lines(store: AuthStore, lines: Iterable[bytes]) -> int:
    """Puts the records of `dump_lines` back and returns how many. Raises ValueError naming the line that is none."""
    return store.restore(_records(lines))


def _records(lines: Iterable[bytes]) -> Iterator[Record]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            name, body = msgspec.json.decode(line, type=tuple[str, msgspec.Raw])
            kind = BY_NAME[name]
            record = decode(kind, bytes(body))
        except (msgspec.DecodeError, KeyError):
            raise ValueError(f"Line {number} is not a record.") from None
        yield record
