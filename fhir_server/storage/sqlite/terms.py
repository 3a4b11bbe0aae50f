"""The dictionary: index keys, resource types and params as small integers.

Rows of the three tables are never changed or removed, so what was once committed can be cached for ever. What the
running write transaction has added is kept apart until it commits.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import apsw

SERIAL_BITS = 31
SERIALS = 1 << SERIAL_BITS
UNITS = 0
"""The param number under which units of range entries are terms."""
CACHED_TERMS = 50_000
CACHED_LISTS = 500
COUNTS_KEPT_S = 30.0


def first_tid(param: int) -> int:
    """Lowest number that a term of `param` can have."""
    return param << SERIAL_BITS


def last_tid(param: int) -> int:
    """Highest number that a term of `param` can have."""
    return (param << SERIAL_BITS) | (SERIALS - 1)


class Counted:
    """How many there are, remembered for a while: about right is right enough for the choice of a plan."""

    __slots__ = ("_count", "_counted", "_expires")

    def __init__(self) -> None:
        self._count, self._counted, self._expires = 0, -1, 0.0

    def upto(self, limit: int, count: Callable[[int], int]) -> int:
        """How many, at most `limit`; `count` finds it out."""
        now = time.monotonic()
        if now > self._expires or (self._count >= self._counted and limit > self._counted):
            self._count = count(limit)
            self._counted, self._expires = limit, now + COUNTS_KEPT_S
        return min(self._count, limit)


@dataclass(slots=True)
class Listed:
    """The terms that a long list of keys stands for: what a policy asks again with every search.

    `tids` ascending; `missing` are (param, key) pairs that no document had yet. `entries` is the number of entries.
    """

    tids: array[int]
    missing: list[tuple[int, str]]
    entries: Counted = field(default_factory=Counted)


class Terms:
    """Numbers of terms, types and params, cached per connection."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._tids: dict[tuple[int, str], int] = {}
        self._types: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._params: dict[int, int] = {}
        self._lists: dict[tuple[tuple[int, ...], tuple[str, ...]], Listed] = {}
        self._rows: dict[tuple[str, ...], tuple[array[int], tuple[str, ...]]] = {}
        self._writing = False
        self._new_tids: dict[tuple[int, str], int] = {}
        self._new_types: dict[str, int] = {}
        self._new_params: dict[int, int] = {}
        self._next: dict[int, int] = {}

    # -- transactions --------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """A write transaction begins: what is found from now on may be rolled back."""
        self._writing = True

    @property
    def writing(self) -> bool:
        """Whether a write transaction runs."""
        return self._writing

    def commit(self) -> None:
        """The write transaction was committed."""
        if len(self._tids) + len(self._new_tids) > CACHED_TERMS:
            self._tids.clear()
        self._tids.update(self._new_tids)
        self._types.update(self._new_types)
        self._names.update((number, name) for name, number in self._new_types.items())
        self._params.update(self._new_params)
        self.forget()

    def forget(self) -> None:
        """The write transaction was rolled back."""
        self._writing = False
        for cache in (self._new_tids, self._new_types, self._new_params, self._next):
            cache.clear()

    # -- reading -------------------------------------------------------------------------------------------------------

    def find(self, param: int, key: str) -> int | None:
        """The tid of a key, None when no document ever had it."""
        pair = (param, key)
        tid = self._tids.get(pair)
        if tid is None:
            if self._writing:
                tid = self._new_tids.get(pair)
                if tid is not None:
                    return tid
            tid = self._connection.execute("SELECT tid FROM term WHERE param = ? AND key = ?", pair).get
            if tid is not None:
                if self._writing:
                    self._new_tids[pair] = tid
                else:
                    if len(self._tids) >= CACHED_TERMS:
                        self._tids.clear()
                    self._tids[pair] = tid
        return tid

    def listed(self, params: tuple[int, ...], keys: tuple[str, ...]) -> Listed:
        """The terms of some keys under any of `params`; remembered, since terms only ever come to be."""
        known = self._lists.get((params, keys)) if not self._writing else None
        if known is not None and not known.missing:
            return known
        pairs = [(param, key) for param in params for key in keys] if known is None else known.missing
        tids = set() if known is None else set(known.tids)
        missing = []
        for pair in pairs:
            tid = self.find(*pair)
            if tid is None:
                missing.append(pair)
            else:
                tids.add(tid)
        if known is not None and len(missing) == len(known.missing):
            return known
        found = Listed(array("q", sorted(tids)), missing)
        if not self._writing:
            if len(self._lists) >= CACHED_LISTS:
                self._lists.clear()
            self._lists[(params, keys)] = found
        return found

    def rids(self, addresses: tuple[str, ...]) -> array[int]:
        """The rows of some resources, deleted ones too; remembered, since the row of a resource is its own for ever."""
        known = self._rows.get(addresses) if not self._writing else None
        if known is not None and not known[1]:
            return known[0]
        found, missing = ([], addresses) if known is None else (list(known[0]), known[1])
        rows = dict(
            self._connection.execute(
                "SELECT r.address, r.rid FROM carray(?) x CROSS JOIN resource r INDEXED BY resource_address "
                "ON r.address = x.value WHERE r.container IS NULL",
                (apsw.carray(missing),),
            )
        )
        if known is not None and not rows:
            return known[0]
        result = array("q", sorted([*found, *rows.values()]))
        if not self._writing:
            if len(self._rows) >= CACHED_LISTS:
                self._rows.clear()
            self._rows[addresses] = result, tuple(address for address in missing if address not in rows)
        return result

    def type_number(self, name: str) -> int | None:
        """The number of a resource type, None when the store never held one."""
        number = self._types.get(name)
        if number is None and self._writing:
            number = self._new_types.get(name)
        if number is None:
            number = self._connection.execute("SELECT number FROM resource_type WHERE name = ?", (name,)).get
            if number is not None:
                (self._new_types if self._writing else self._types)[name] = number
        return number

    def type_name(self, number: int) -> str:
        """The resource type of a number that a row carries."""
        name = self._names.get(number)
        if name is None:
            name = str(self._connection.execute("SELECT name FROM resource_type WHERE number = ?", (number,)).get)
            if not self._writing:
                self._names[number] = name
        return name

    def type_numbers(self) -> dict[int, str]:
        """All types that the store ever held."""
        return dict(self._connection.execute("SELECT number, name FROM resource_type"))

    def param_type(self, param: int) -> int | None:
        """The number of the type that a param belongs to, None when no document has used it yet."""
        number = self._params.get(param)
        if number is None and self._writing:
            number = self._new_params.get(param)
        if number is None:
            number = self._connection.execute("SELECT type FROM param_type WHERE param = ?", (param,)).get
            if number is not None:
                (self._new_params if self._writing else self._params)[param] = number
        return number

    # -- writing -------------------------------------------------------------------------------------------------------

    def make_type(self, name: str) -> int:
        """The number of a resource type, made on first use."""
        number = self.type_number(name)
        if number is None:
            number = int(self._connection.execute("SELECT ifnull(max(number), 0) + 1 FROM resource_type").get)
            self._connection.execute("INSERT INTO resource_type (number, name) VALUES (?, ?)", (number, name))
            self._new_types[name] = number
        return number

    def make(self, param: int, key: str) -> int:
        """The tid of a key, made on first use."""
        tid = self.find(param, key)
        if tid is None:
            tid = self._next.get(param)
            if tid is None:
                highest = self._connection.execute("SELECT max(tid) FROM term WHERE tid <= ?", (last_tid(param),)).get
                tid = first_tid(param) if highest is None or highest < first_tid(param) else highest + 1
            if tid > last_tid(param):
                raise OverflowError(f"Parameter {param} has more than {SERIALS} distinct values.")
            self._connection.execute("INSERT INTO term (tid, param, key) VALUES (?, ?, ?)", (tid, param, key))
            self._next[param] = tid + 1
            self._new_tids[(param, key)] = tid
        return tid

    def bind_params(self, params: Iterable[int], type_number: int) -> None:
        """Records that `params` belong to a type.

        Raises: ValueError when one belongs to another: searches leave out the check of the type because of this rule.
        """
        for param in params:
            known = self._params.get(param)
            if known is None:
                known = self.param_type(param)
            if known is None:
                self._connection.execute("INSERT INTO param_type (param, type) VALUES (?, ?)", (param, type_number))
                self._new_params[param] = type_number
            elif known != type_number:
                raise ValueError(f"Parameter number {param} belongs to {self.type_name(known)}, not to another type.")
