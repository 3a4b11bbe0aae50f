"""The plainest possible reading of search/ast.py: an oracle that both stores are compared with. Quadratic, and meant to be."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, assert_never

from fhir_server.search.ast import (
    CONTAINED,
    AllOf,
    And,
    AnyOf,
    Compare,
    Exists,
    Field,
    Include,
    Linked,
    LinkedFrom,
    Node,
    Not,
    Or,
    Search,
    Select,
    SortKey,
    Test,
)
from fhir_server.storage.writes import Document, Version


@dataclass(eq=False)
class Bound:
    """One document of the corpus. `place` orders it: (creation of its resource, address)."""

    document: Document
    place: tuple[int, str]
    updated: int
    container: Bound | None = None

    @property
    def root(self) -> Bound:
        """The resource that the document is or is contained in."""
        return self.container or self


@dataclass
class Reference:
    """Current documents of a store, fed with the versions that the store was fed with."""

    order: dict[str, int] = field(default_factory=dict)
    current: dict[str, Version] = field(default_factory=dict)

    def append(self, versions: list[Version]) -> None:
        """Takes committed versions."""
        for version in versions:
            self.order.setdefault(version.address, len(self.order) + 1)
            self.current[version.address] = version

    def documents(self) -> list[Bound]:
        """All documents, in order of creation."""
        found = []
        for address, version in sorted(self.current.items(), key=lambda item: self.order[item[0]]):
            if version.body is None:
                continue
            root: Bound | None = None
            for document in sorted(version.documents, key=lambda one: one.address):
                bound = Bound(document, (self.order[address], document.address), version.updated, root)
                root = root or bound
                found.append(bound)
        return found

    # -- a search ------------------------------------------------------------------------------------------------------

    def matches(self, search: Search) -> list[Bound]:
        """All matches in order, not cut into pages."""
        found = [one for one in self.documents() if self.selects(search.select, one)]
        if search.containers:
            return sorted({one.root.place: one.root for one in found}.values(), key=lambda one: one.place)
        for key in reversed(search.sort):
            found = self._sorted(found, key, search.select.contained)
        return found

    def _sorted(self, found: list[Bound], key: SortKey, contained: str) -> list[Bound]:
        valued: list[tuple[Any, Bound]] = []
        missing: list[Bound] = []
        for one in found:
            values = self._values(one, key, contained)
            if values:
                valued.append((max(values) if key.descending else min(values), one))
            else:
                missing.append(one)
        # A stable descending sort keeps the order of ties, as `reverse` does.
        valued.sort(key=lambda pair: pair[0], reverse=key.descending)
        return [one for _, one in valued] + missing

    def _values(self, one: Bound, key: SortKey, contained: str) -> list[Any]:
        params = shifted(key.params, contained)
        match key.shape:
            case "key":
                return [text for param, text in one.document.keys if param in params]
            case "range":
                return [entry[3 if key.descending else 2] for entry in one.document.ranges if entry[0] in params]
            case "updated":
                return [] if one.container else [one.updated]
            case "id":
                return [] if one.container else [one.document.address.partition("/")[2]]
            case _:
                assert_never(key.shape)

    def included(self, search: Search, matches: list[Bound]) -> tuple[set[str], bool]:
        """Addresses that includes add to a page of these matches (contained "no"), and whether the depth cut something."""
        seen = {one.document.address for one in matches}
        frontier, answer = matches, set()
        for level in range(search.include_depth + 1):
            reached = [
                target
                for include in search.includes
                if include.iterate or level == 0
                for source in frontier
                for target in self.documents()
                if target.document.address not in seen and self._includes(include, source, target)
            ]
            if level == search.include_depth:
                return answer, bool(reached)
            frontier = list({one.document.address: one for one in reached}.values())
            seen |= {one.document.address for one in frontier}
            answer |= {one.document.address for one in frontier}
        raise AssertionError("unreachable")

    def _includes(self, include: Include, source: Bound, target: Bound) -> bool:
        if include.source is not None and source.document.type not in include.source:
            return False
        if not self.selects(include.select, target):
            return False
        pointing, pointed = (target, source) if include.reverse else (source, target)
        return any(param in include.params and key == pointed.document.address for param, key in pointing.document.keys)

    # -- the tree ------------------------------------------------------------------------------------------------------

    def selects(self, select: Select, one: Bound) -> bool:
        """Whether a Select selects a document."""
        if select.contained != "both" and (one.container is not None) != (select.contained == "only"):
            return False
        if select.types is not None and one.document.type not in select.types:
            return False
        return self.holds(select.where, one, select.contained)

    def holds(self, node: Node, one: Bound, contained: str) -> bool:
        """Whether a node holds for a document bound by a Select of this containment."""
        match node:
            case And(parts):
                return all(self.holds(part, one, contained) for part in parts)
            case Or(parts):
                return any(self.holds(part, one, contained) for part in parts)
            case Not(part):
                return not self.holds(part, one, contained)
            case Exists(params, shape, test):
                numbers = shifted(params, contained)
                if shape == "key":
                    return any(passes(test, {"key": key}) for param, key in one.document.keys if param in numbers)
                return any(
                    passes(test, {"key": key, "low": low, "high": high, "unit": unit})
                    for param, key, low, high, unit in one.document.ranges
                    if param in numbers
                )
            case Linked(params, target):
                numbers = shifted(params, contained)
                keys = {key for param, key in one.document.keys if param in numbers}
                return any(other.document.address in keys and self.selects(target, other) for other in self.documents())
            case LinkedFrom(params, source):
                numbers = shifted(params, source.contained)
                wanted = {(param, one.document.address) for param in numbers}
                return any(
                    wanted & set(other.document.keys) and self.selects(source, other) for other in self.documents()
                )
            case Field(name, op, value):
                if name == "type":
                    return compared(one.document.type, op, value)
                if one.container is not None:
                    return False
                if name == "updated":
                    return compared(one.updated, op, value)
                address = one.document.address
                return compared(address if name == "address" else address.partition("/")[2], op, value)
            case _:
                assert_never(node)


def shifted(params: tuple[int, ...], contained: str) -> set[int]:
    """Param numbers as documents of this containment carry them."""
    plain, inner = set(params), {param | CONTAINED for param in params}
    return plain if contained == "no" else inner if contained == "only" else plain | inner


def passes(test: Test, entry: dict[str, Any]) -> bool:
    """Whether one entry passes a test."""
    match test:
        case Compare(column, op, value):
            return compared(entry[column], op, value)
        case AllOf(tests):
            return all(passes(one, entry) for one in tests)
        case AnyOf(tests):
            return any(passes(one, entry) for one in tests)
        case _:
            assert_never(test)


def compared(found: Any, op: str, value: Any) -> bool:
    """One comparison; text by code point."""
    match op:
        case "=":
            return bool(found == value)
        case "<":
            return bool(found < value)
        case "<=":
            return bool(found <= value)
        case ">":
            return bool(found > value)
        case ">=":
            return bool(found >= value)
        case "in":
            return found in value
        case "prefix":
            return bool(found.startswith(value))
        case "ends":
            return bool(found.endswith(value))
        case "has":
            return value in found
        case _:
            raise ValueError(op)
