"""Long lists of a policy as bits: whether a number (of a term, of a row) is on the list is one look at a byte.

A statement that gets the list itself makes an index of it each time it runs, 0.1 us for each entry. Bits are bound as
they are. They hold for the numbers that were given when they were made: numbers only rise, and what a number stands for
never changes, so bits are right for ever, and what has a higher number is decided by its text. Thus a statement needs
no snapshot in common with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import apsw

from fhir_server.storage.sqlite.sqltext import Sql
from fhir_server.storage.sqlite.terms import SERIALS, first_tid, last_tid

BITS: Final = 6
"""Numbers per byte, which is then a character: SQL has no other way from a byte to an integer."""
EMPTY: Final = 0x40
MOST: Final = 3_000_000
"""Numbers up to which there are bits, 0.5 MB: binding them is copying them."""
FRESH_S: Final = 1.0
"""How often it is looked whether there are numbers that the bits do not know; until then their texts are asked."""


class Marks:
    """The bits of one list.

    One per connection and list; used outside write transactions, or made before one: what is not yet committed may be
    rolled back, and its number given again.
    """

    __slots__ = ("_bits", "_numbers", "_texts", "_until")

    def __init__(self, numbers: Numbers, texts: tuple[str, ...]) -> None:
        self._numbers = numbers
        self._texts = apsw.carray(texts)
        self._until = numbers.lowest - 1
        self._bits = b""

    def test(self, number: str, text: str) -> Sql:
        """Whether the number that the SQL expression `number` gives is on the list; `text` is SQL for its text.

        Completes the bits. Who asks keeps the answer for FRESH_S.
        """
        self._refresh()
        place = f"({number} & {SERIALS - 1})"
        return (
            f"CASE WHEN {number} <= ? THEN unicode(substr(?, {place} / {BITS} + 1, 1)) >> ({place} % {BITS}) & 1 "
            f"ELSE {text} IN (SELECT value FROM carray(?)) END",
            (self._until, self._bits, self._texts),
        )

    def _refresh(self) -> None:
        # First the highest number: what has a lower one is there when the list is looked up.
        highest = self._numbers.highest()
        if highest is None or highest == self._until:
            return
        lowest = self._numbers.lowest
        if highest - lowest >= MOST:
            return
        bits = bytearray(self._bits)
        bits.extend(bytes((EMPTY,)) * ((highest - lowest) // BITS + 1 - len(bits)))
        for number in self._numbers.listed(self._texts):
            if number <= highest:
                place = number - lowest
                bits[place // BITS] |= 1 << place % BITS
        self._bits, self._until = bytes(bits), highest


class Numbers:
    """What is numbered: the terms of one param, or the rows of resources."""

    __slots__ = ("_execute", "_param", "lowest")

    def __init__(self, execute: Any, param: int | None) -> None:
        self._execute = execute
        self._param = param
        self.lowest = 0 if param is None else first_tid(param)

    def highest(self) -> int | None:
        """The highest number that is given; None when there is none."""
        if self._param is None:
            # Rows of contained resources are removed, and their numbers given again, but none below this one.
            own: int | None = self._execute(
                "SELECT rid FROM resource WHERE container IS NULL ORDER BY rid DESC LIMIT 1"
            ).get
            return own
        found: int | None = self._execute("SELECT max(tid) FROM term WHERE tid <= ?", (last_tid(self._param),)).get
        return found if found is not None and found >= self.lowest else None

    def listed(self, texts: Any) -> Iterable[int]:
        """The numbers of those of some texts that have one."""
        if self._param is None:
            rows = self._execute(
                "SELECT r.rid FROM carray(?) x CROSS JOIN resource r INDEXED BY resource_address "
                "ON r.address = x.value WHERE r.container IS NULL",
                (texts,),
            )
        else:
            rows = self._execute(
                "SELECT t.tid FROM carray(?) x CROSS JOIN term t INDEXED BY term_key "
                "ON t.param = ? AND t.key = x.value",
                (texts, self._param),
            )
        return [number for (number,) in rows]


def terms_marked(execute: Any, params: Sequence[int], keys: tuple[str, ...]) -> list[Marks]:
    """The bits of a list of keys, for each of some params."""
    return [Marks(Numbers(execute, param), keys) for param in params]


def rows_marked(execute: Any, addresses: tuple[str, ...]) -> Marks:
    """The bits of a list of addresses."""
    return Marks(Numbers(execute, None), addresses)
