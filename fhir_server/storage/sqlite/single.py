"""A policy decided for one resource in memory: one statement, whatever the length of the lists that the policy holds.

The statement gives the row of the resource together with the numbers of its terms, so both are of one moment. A number
stands for the same param and key for ever, so what the terms say may be remembered.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from fhir_server.search.ast import And, Compare, Exists, Node, Not, Or, Test
from fhir_server.storage.sqlite.terms import SERIAL_BITS

Keys = dict[int, list[str]]
"""Keys of one resource by param."""

ONE: Final = (
    "SELECT r.address, r.version, r.updated, r.method, r.body, r.registry, r.rid, "
    "(SELECT group_concat(p.tid) FROM posting p INDEXED BY posting_rid WHERE p.rid = r.rid) "
    "FROM resource r INDEXED BY resource_address WHERE r.address = ? AND r.state = 1"
)
KEYS_KEPT: Final = 50_000
LISTS_KEPT: Final = 500


class Decider:
    """Decides nodes of key entries; one per connection."""

    def __init__(self, connection: Any) -> None:
        self._execute = connection.execute
        self._keys: dict[int, str] = {}
        self._lists: dict[int, tuple[Test, frozenset[Any]]] = {}

    def row(self, address: str, nodes: Sequence[Node]) -> tuple[Any, ...] | None:
        """The row of a current resource if it satisfies all nodes, which must be `decidable`."""
        row = self._execute(ONE, (address,)).get
        if row is None:
            return None
        keys: Keys = {}
        known = self._keys
        if row[7] is not None:
            for tid in map(int, row[7].split(",")):
                key = known.get(tid)
                keys.setdefault(tid >> SERIAL_BITS, []).append(self._key(tid) if key is None else key)
        return row[:7] if all(self._holds(node, keys) for node in nodes) else None

    def _key(self, tid: int) -> str:
        key = str(self._execute("SELECT key FROM term WHERE tid = ?", (tid,)).get)
        if len(self._keys) >= KEYS_KEPT:
            self._keys.clear()
        self._keys[tid] = key
        return key

    def _holds(self, node: Node, keys: Keys) -> bool:
        match node:
            case Exists(params, _, test):
                assert isinstance(test, Compare)
                for param in params:
                    for key in keys.get(param, ()):
                        if key in self._list(test):
                            return True
                return False
            case And(parts):
                return all(self._holds(part, keys) for part in parts)
            case Or(parts):
                return any(self._holds(part, keys) for part in parts)
            case Not(part):
                return not self._holds(part, keys)
            case _:
                raise TypeError("The node cannot be decided by keys.")

    def _list(self, test: Compare) -> frozenset[Any]:
        """The keys that pass a test. A policy asks with the same object each time, which is held so that its id stays
        its own.
        """
        known = self._lists.get(id(test))
        if known is None:
            wanted = frozenset(test.value if test.op == "in" else (test.value,))  # type: ignore[arg-type]
            if len(self._lists) >= LISTS_KEPT:
                self._lists.clear()
            known = self._lists[id(test)] = test, wanted
        return known[1]


def decidable(node: Node) -> bool:
    """Whether a node asks for nothing but key entries with given keys."""
    match node:
        case And(parts) | Or(parts):
            return all(map(decidable, parts))
        case Not(part):
            return decidable(part)
        case Exists(_, shape, test):
            return shape == "key" and isinstance(test, Compare) and test.column == "key" and test.op in ("=", "in")
        case _:
            return False
