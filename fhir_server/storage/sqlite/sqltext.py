"""Pieces of SQL: tests on the columns of one entry, lists, conjunctions. Nothing here asks the store."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any, assert_never

import apsw

from fhir_server.search.ast import CONTAINED, AllOf, AnyOf, Compare, Test
from fhir_server.storage.sqlite.terms import first_tid, last_tid

Sql = tuple[str, tuple[Any, ...]]
"""Text with ``?`` for each argument, in order."""

# --- tests ------------------------------------------------------------------------------------------------------------


def consistent(branch: list[Compare]) -> bool:
    """False when a conjunction demands two different keys."""
    demanded = None
    for one in branch:
        if one.column == "key" and one.op == "=":
            if demanded is not None and one.value != demanded:
                return False
            demanded = one.value
    return True


def expression(test: Test, columns: dict[str, str]) -> Sql:
    """The test as a boolean expression over the columns of one entry."""
    match test:
        case Compare(column=column):
            return compare(columns[column], test)
        case AllOf(tests):
            return conjunction([expression(one, columns) for one in tests])
        case AnyOf(tests):
            return disjunction([expression(one, columns) for one in tests])
        case _:
            assert_never(test)


def compare(column: str, test: Compare) -> Sql:
    """One comparison. Text functions, not LIKE: no wildcards, no case folding, and nothing ends at U+0000."""
    value = test.value
    match test.op:
        case "=" | "<" | "<=" | ">" | ">=":
            return f"{column} {test.op} ?", (value,)
        case "in":
            text, arguments = in_list_text(value)  # type: ignore[arg-type]
            return f"{column} {text}", arguments
        case "prefix":
            low, high = prefix_bounds(str(value))
            return (
                (f"({column} >= ? AND {column} < ?)", (low, high)) if high is not None else (f"{column} >= ?", (low,))
            )
        case "ends":
            return (f"substr({column}, -{len(str(value))}) = ?", (value,)) if value else ("1", ())
        case "has":
            return f"instr({column}, ?) > 0", (value,)
        case _:
            assert_never(test.op)


def key_test(branch: Sequence[Compare]) -> tuple[list[str] | None, Sql | None]:
    """A conjunction of tests on keys as a list of exact keys, or as a text on ``$key``; (None, None) when it never
    holds.
    """
    exact: set[Any] | None = None
    window = Window()
    rest: list[Sql] = []
    for one in branch:
        if one.op in ("=", "in"):
            values = set(one.value if one.op == "in" else (one.value,))  # type: ignore[arg-type]
            exact = values if exact is None else exact & values
        elif not window.add(one):
            rest.append(compare("$key", one))
    if window.empty() or exact == set():
        return None, None
    if exact is not None and len(branch) == 1:
        return sorted(exact), None
    if exact is not None:
        text, arguments = in_list_text(sorted(exact))
        rest.append((f"$key {text}", arguments))
    parts = [(f"$key {operator} ?", (value,)) for operator, value in window.bounds()] + rest
    if not parts:
        return None, ("1", ())
    text, arguments = " AND ".join(part for part, _ in parts), tuple(value for _, values in parts for value in values)
    return None, (text, arguments)


class Window:
    """The tightest bounds that some comparisons of one column leave."""

    def __init__(self) -> None:
        self.low: tuple[Any, bool] | None = None  # value, strict
        self.high: tuple[Any, bool] | None = None

    def add(self, test: Compare) -> bool:
        """Takes a comparison that is a bound; False when it is not one."""
        value = test.value
        match test.op:
            case ">" | ">=":
                self._raise(value, test.op == ">")
            case "<" | "<=":
                self._lower(value, test.op == "<")
            case "=":
                self._raise(value, False)
                self._lower(value, False)
            case "prefix":
                low, high = prefix_bounds(str(value))
                self._raise(low, False)
                if high is not None:
                    self._lower(high, True)
            case _:
                return False
        return True

    def _raise(self, value: Any, strict: bool) -> None:
        if self.low is None or (value, strict) > self.low:
            self.low = (value, strict)

    def _lower(self, value: Any, strict: bool) -> None:
        if self.high is None or (value, not strict) < (self.high[0], not self.high[1]):
            self.high = (value, strict)

    def empty(self) -> bool:
        """Whether no value is within the bounds."""
        if self.low is None or self.high is None:
            return False
        return bool(self.low[0] > self.high[0] or (self.low[0] == self.high[0] and (self.low[1] or self.high[1])))

    def bounds(self) -> list[tuple[str, Any]]:
        """The bounds as operators and values."""
        found = []
        if self.low is not None and self.high is not None and self.low[0] == self.high[0]:
            return [("=", self.low[0])]
        if self.low is not None:
            found.append((">" if self.low[1] else ">=", self.low[0]))
        if self.high is not None:
            found.append(("<" if self.high[1] else "<=", self.high[0]))
        return found


def prefix_bounds(prefix: str) -> tuple[str, str | None]:
    """[low, high) of the texts that begin with `prefix` in order of code points; high None when there is none above."""
    for length in range(len(prefix), 0, -1):
        point = ord(prefix[length - 1])
        if point < 0x10FFFF:
            following = 0xE000 if point == 0xD7FF else point + 1  # surrogates are no characters
            return prefix, prefix[: length - 1] + chr(following)
    return prefix, None


def holds(text: str, op: str, value: Any) -> bool:
    """A comparison of text in memory."""
    match op:
        case "=":
            return bool(text == value)
        case "in":
            return text in value
        case "<":
            return bool(text < value)
        case "<=":
            return bool(text <= value)
        case ">":
            return bool(text > value)
        case ">=":
            return bool(text >= value)
        case _:
            raise ValueError(f"No comparison of a field: {op}")


# --- pieces of SQL ----------------------------------------------------------------------------------------------------


def shift(params: tuple[int, ...], contained: str) -> tuple[int, ...]:
    """Param numbers as documents of this containment carry them."""
    if contained == "no":
        return params
    shifted = tuple(param | CONTAINED for param in params)
    return shifted if contained == "only" else params + shifted


def tids_of(column: str, params: Sequence[int]) -> Sql:
    """`column` is a term of one of `params`."""
    if len(params) == 1:
        return f"{column} BETWEEN ? AND ?", (first_tid(params[0]), last_tid(params[0]))
    return disjunction([(f"{column} BETWEEN ? AND ?", (first_tid(param), last_tid(param))) for param in params])


def carray(numbers: Sequence[int]) -> Any:
    """Integers bound as one value for the table-valued function carray."""
    return apsw.carray(array("q", numbers))


def in_list(numbers: Sequence[int]) -> Sql:
    """The right side of IN; few integers one by one, many as one array."""
    if len(numbers) <= 8:
        return f"({','.join('?' * len(numbers))})", tuple(numbers)
    return "(SELECT value FROM carray(?))", (carray(numbers),)


def in_list_text(values: Sequence[Any]) -> Sql:
    """``IN (...)`` over scalars of any type."""
    values = tuple(values)
    if len(values) > 8:
        bound = apsw.carray(values if isinstance(values[0], str) else array("q", values))
        return "IN (SELECT value FROM carray(?))", (bound,)
    return f"IN ({','.join('?' * len(values))})", values


def conjunction(parts: Sequence[Sql]) -> Sql:
    """All of some expressions."""
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return "1", ()
    return f"({' AND '.join([text for text, _ in parts])})", tuple([value for _, values in parts for value in values])


def disjunction(parts: Sequence[Sql]) -> Sql:
    """Any of some expressions."""
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return "0", ()
    # AND binds closer than OR, so the parts need no parentheses of their own
    return f"({' OR '.join([text for text, _ in parts])})", tuple([value for _, values in parts for value in values])


def union(parts: Sequence[Sql]) -> Sql:
    """The rows of all of some statements."""
    if len(parts) == 1:
        return parts[0]
    return " UNION ALL ".join(f"SELECT rid FROM ({text})" for text, _ in parts), tuple(
        v for _, values in parts for v in values
    )
