"""The search tree as MongoDB filters.

Every filter is written against the layout of `indexes.py`:

    k   array of text, ``param U+001D key``             key entries; `param` in base 36
    r   array of {k: ``param U+001D key``, l, h, u}     range entries
    o   {param: {a, d}}                                  sort keys of integer ranges, see `sort_text`

so that one equality is one flat string, a prefix is one interval of it, and a whole test on one range entry is one
``$elemMatch`` whose leading fields an index holds. Alternatives inside a test are multiplied out: each becomes an
interval of its own.

`Linked` and `LinkedFrom` are asked of `Links` first, innermost first, and arrive here as lists of addresses.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Literal, Protocol, assert_never

from fhir_server import errors
from fhir_server.search.ast import (
    CONTAINED,
    AllOf,
    And,
    AnyOf,
    Column,
    Compare,
    Exists,
    Field,
    Linked,
    LinkedFrom,
    Node,
    Not,
    Or,
    Scalar,
    Select,
    SortKey,
    Test,
)

Filter = dict[str, Any]
Mode = Literal["no", "only", "both"]

ALWAYS: Filter = {}
NEVER: Filter = {"_id": {"$in": []}}

SEPARATOR = "\x1d"
AFTER_SEPARATOR = "\x1e"
CURRENT, INSIDE, DELETED = 1, 2, 0
"""Values of `state`: a current resource, a document contained in one, a deletion."""

MAX_ALTERNATIVES = 256
"""Of one test, lists of equalities counted once; both stores refuse more."""
MAX_PATTERN = 30_000
"""mongod refuses regular expressions above 32,764 bytes."""
INTEGER_RANGE = 2**63
MAX_FILTER = 14_000_000
"""Bytes of address lists in one filter; a command ends at 16 MiB."""

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


class Links(Protocol):
    """What the compiler asks of the store while it compiles: one command per call."""

    def linked(self, select: Select) -> Sequence[str]:
        """Addresses of the documents that `select` selects. Raises: TooCostly."""

    def sources(self, select: Select, params: Sequence[int]) -> Iterable[str]:
        """Keys of the entries of `params` in the documents that `select` selects. Raises: TooCostly."""


def base36(number: int) -> str:
    """`number` in digits and small letters."""
    text = ""
    while True:
        number, digit = divmod(number, 36)
        text = _DIGITS[digit] + text
        if not number:
            return text


_prefixes: dict[int, str] = {}


def prefix_of(param: int) -> str:
    """What every stored key of `param` starts with."""
    prefix = _prefixes.get(param)
    if prefix is None:
        prefix = _prefixes[param] = base36(param) + SEPARATOR
    return prefix


def end_of(param: int) -> str:
    """The least text above every stored key of `param`."""
    return prefix_of(param)[:-1] + AFTER_SEPARATOR


def shifted(params: Iterable[int], mode: Mode) -> tuple[int, ...]:
    """`params` as the documents of a mode carry them: entries of contained documents have bit 8 set."""
    match mode:
        case "no":
            return tuple(params)
        case "only":
            return tuple(param | CONTAINED for param in params)
        case "both":
            plain = tuple(params)
            return plain + tuple(param | CONTAINED for param in plain)
        case _:
            assert_never(mode)


# --- filters ----------------------------------------------------------------------------------------------------------


def both(parts: Iterable[Filter]) -> Filter:
    """The conjunction: one flat document where the members' names differ, else ``$and``."""
    flat: list[Filter] = []
    for part in parts:
        if part == NEVER:
            return NEVER
        if "$and" in part and len(part) == 1:
            flat.extend(part["$and"])
        elif part:
            flat.append(part)
    merged: Filter = {}
    for part in flat:
        for name, condition in part.items():
            if name in merged and merged[name] != condition:
                return {"$and": flat}
            merged[name] = condition
    return merged


def either(parts: Iterable[Filter]) -> Filter:
    """The disjunction; equalities on `k` become one ``$in``."""
    kept: list[Filter] = []
    exact: dict[str, None] = {}
    for part in parts:
        if part == ALWAYS:
            return ALWAYS
        if part == NEVER:
            continue
        if len(part) == 1 and "k" in part:
            condition = part["k"]
            if isinstance(condition, str):
                exact[condition] = None
                continue
            if "$in" in condition:
                exact.update(dict.fromkeys(condition["$in"]))
                continue
        if "$or" in part and len(part) == 1:
            kept.extend(part["$or"])
        else:
            kept.append(part)
    if exact:
        kept.insert(0, {"k": one_of(exact)})
    if not kept:
        return NEVER
    return kept[0] if len(kept) == 1 else {"$or": kept}


def negated(part: Filter) -> Filter:
    """``$nor``, never ``$ne`` or ``$not``: on arrays only the former means that no element passes."""
    if part == ALWAYS:
        return NEVER
    if part == NEVER:
        return ALWAYS
    if len(part) == 1 and "$nor" in part and len(part["$nor"]) == 1:
        inner: Filter = part["$nor"][0]
        return inner
    return {"$nor": [part]}


def one_of(values: Iterable[Any]) -> Any:
    """An equality or ``$in``."""
    listed = list(values)
    return listed[0] if len(listed) == 1 else {"$in": listed}


# --- one document -----------------------------------------------------------------------------------------------------


def compile_select(select: Select, links: Links) -> Filter:
    """The filter of everything that `select` selects.

    Its `state` is left out where a positive test on entries implies it: deletions have no entries, and a contained
    document's are marked by their param. An index then answers alone.
    """
    if select.types == ():
        return NEVER
    where = compile_node(select.where, select.contained, links)
    if where == NEVER:
        return NEVER
    parts: list[Filter] = []
    if not _implies_entry(select.where):
        parts.append({"state": _state(select.contained)})
    if select.types is not None:
        parts.append({"type": one_of(select.types)})
    parts.append(where)
    named = _named_addresses(select)
    if named:
        # No index holds `id`; the resource's own `_id` is its address, which then answers alone.
        parts.append({"_id": one_of(named)})
    return both(parts)


_NAMED = 1000
"""Types times ids above which naming the addresses would cost more than it spares."""


def _named_addresses(select: Select) -> list[str]:
    """The addresses that every selected resource is one of, where the Select names ids: ``_id=x`` on given types."""
    if select.contained != "no" or select.types is None:
        return []
    ids = _named_ids(select.where)
    if ids is None or not 0 < len(ids) * len(select.types) <= _NAMED:
        return []
    return [f"{type_name}/{id_}" for type_name in select.types for id_ in ids]


def _named_ids(node: Node) -> dict[str, None] | None:
    """The ids of which whatever satisfies a node has one; None where it names none."""
    match node:
        case Field(name="id", op="=" | "in", value=value):
            values = value if isinstance(value, tuple) else (value,)
            return {one: None for one in values if isinstance(one, str) and _storable(one)}
        case And(parts):
            named = [found for part in parts if (found := _named_ids(part)) is not None]
            return min(named, key=len) if named else None
        case Or(parts):
            union: dict[str, None] = {}
            for part in parts:
                found = _named_ids(part)
                if found is None:
                    return None
                union.update(found)
            return union if parts else None
        case _:
            return None


def _state(mode: Mode) -> Any:
    match mode:
        case "no":
            return CURRENT
        case "only":
            return INSIDE
        case "both":
            return {"$in": [CURRENT, INSIDE]}
        case _:
            assert_never(mode)


def _implies_entry(node: Node) -> bool:
    match node:
        case Exists() | Linked():
            return True
        case And(parts):
            return any(_implies_entry(part) for part in parts)
        case Or(parts):
            return bool(parts) and all(_implies_entry(part) for part in parts)
        case Not() | LinkedFrom() | Field():
            return False
        case _:
            assert_never(node)


def compile_node(node: Node, mode: Mode, links: Links) -> Filter:
    """The filter of one predicate, for documents of `mode`."""
    match node:
        case And(parts):
            # The cheap parts first: a part that never holds spares the commands of the chains beside it only where the
            # limit of a chain cannot be passed unseen, so every chain is asked.
            return both([compile_node(part, mode, links) for part in parts])
        case Or(parts):
            return either([compile_node(part, mode, links) for part in parts])
        case Not(part):
            return negated(compile_node(part, mode, links))
        case Exists(params, shape, test):
            return compile_exists(shifted(params, mode), shape, test)
        case Linked(params, target):
            addresses = links.linked(target)
            return _keyed(shifted(params, mode), addresses)
        case LinkedFrom(params, source):
            found = {key for key in links.sources(source, shifted(params, source.contained)) if _is_local(key)}
            return _addressed(sorted(found))
        case Field():
            return _field(node, mode)
        case _:
            assert_never(node)


def _is_local(key: str) -> bool:
    return key.count("/") == 1


def _keyed(params: Sequence[int], addresses: Sequence[str]) -> Filter:
    if not addresses or not params:
        return NEVER
    _check_size(addresses, len(params))
    return {"k": one_of([prefix_of(param) + address for param in params for address in addresses])}


def _addressed(addresses: Sequence[str]) -> Filter:
    if not addresses:
        return NEVER
    _check_size(addresses, 1)
    return {"_id": one_of(addresses)}


def _check_size(addresses: Sequence[str], times: int) -> None:
    if len(addresses) * times > 20_000 and sum(map(len, addresses)) * times + 18 * len(addresses) * times > MAX_FILTER:
        raise errors.TooCostly("A chain of this search selects too many resources; narrow it.")


_FIELDS = {"type": "type", "id": "id", "address": "_id", "updated": "updated"}
_OPERATORS = {"<": "$lt", "<=": "$lte", ">": "$gt", ">=": "$gte"}


def _field(field: Field, mode: Mode) -> Filter:
    name = _FIELDS[field.name]
    if field.op == "in":
        assert isinstance(field.value, tuple)
        values = [value for value in field.value if _storable(value)]
        if not values:
            return NEVER
        condition: Any = one_of(values)
    elif not _storable(field.value):
        return NEVER
    elif field.op == "=":
        condition = field.value
    elif field.name == "updated" and field.op in (">=", "<="):
        assert isinstance(field.value, int)
        condition = at_least(field.value) if field.op == ">=" else at_most(field.value)
    else:
        condition = {_OPERATORS[field.op]: field.value}
    if field.name == "address" and mode != "no":
        return {"state": CURRENT, name: condition}  # contained documents have an _id, but no address
    return {name: condition}


def at_least(value: int) -> Filter:
    """``>= value`` on integers, with an exclusive bound.

    It is the same; but where an interval is on a middle field of an index, SecantusDB 0.7.0b3 loses the end of an
    inclusive one.
    """
    return {"$gt": value - 1} if value > -INTEGER_RANGE else {"$gte": value}


def at_most(value: int) -> Filter:
    """``<= value`` on integers; see `at_least`."""
    return {"$lt": value + 1} if value < INTEGER_RANGE - 1 else {"$lte": value}


def _storable(value: Any) -> bool:
    """False for text that UTF-8 cannot hold: nothing stored equals it."""
    if not isinstance(value, str) or value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


# --- one entry --------------------------------------------------------------------------------------------------------


def compile_exists(params: Sequence[int], shape: Literal["key", "range"], test: Test) -> Filter:
    """ONE entry of one of `params` passes the whole `test`."""
    if not params:
        return NEVER
    alternatives = _alternatives(test)
    parts: list[Filter] = []
    match shape:
        case "key":
            for compares in alternatives:
                if any(compare.column != "key" for compare in compares):
                    raise ValueError("A key entry has no other column than its key.")
                parts.extend(_flat(condition) for condition in _keys(params, compares))
        case "range":
            for compares in alternatives:
                columns: Filter = {}
                for column, member in (("low", "l"), ("high", "h"), ("unit", "u")):
                    mine = [compare for compare in compares if compare.column == column]
                    if mine:
                        condition = _column(mine)
                        if condition is None:
                            break
                        columns[member] = condition
                else:
                    keys = [compare for compare in compares if compare.column == "key"]
                    parts.extend({"r": {"$elemMatch": {"k": key, **columns}}} for key in _keys(params, keys))
        case _:
            assert_never(shape)
    return either(parts)


def _flat(condition: Any) -> Filter:
    """`condition` on one element of `k`."""
    if isinstance(condition, str) or "$in" in condition:
        return {"k": condition}
    return {"k": {"$elemMatch": condition}}


def _alternatives(test: Test) -> list[list[Compare]]:
    """`test` as alternatives, each a list of comparisons that all hold."""
    match test:
        case Compare():
            return [[test]]
        case AnyOf(tests):
            # Equalities of one column are one alternative, however many: lists of codes are long.
            equal: dict[Column, dict[Scalar, None]] = {}
            others: list[list[Compare]] = []
            for one in tests:
                if isinstance(one, Compare) and one.op in ("=", "in"):
                    values = one.value if isinstance(one.value, tuple) else (one.value,)
                    equal.setdefault(one.column, {}).update(dict.fromkeys(values))
                else:
                    others.extend(_alternatives(one))
            return [[Compare(column, "in", tuple(values))] for column, values in equal.items()] + others
        case AllOf(tests):
            product: list[list[Compare]] = [[]]
            for one in tests:
                more = _alternatives(one)
                if len(product) * len(more) > MAX_ALTERNATIVES and len(product) > 1:
                    raise errors.TooCostly("A parameter of this search combines too many alternatives.")
                product = [[*left, *right] for left in product for right in more]
            return product
        case _:
            assert_never(test)


def passes(value: Scalar, compare: Compare) -> bool:
    """One comparison, in memory."""
    wanted = compare.value
    if isinstance(wanted, tuple):
        return any(type(one) is type(value) and one == value for one in wanted)
    if type(wanted) is not type(value):
        return False
    match compare.op:
        case "=":
            return value == wanted
        case "<":
            return value < wanted  # type: ignore[operator]
        case "<=":
            return value <= wanted  # type: ignore[operator]
        case ">":
            return value > wanted  # type: ignore[operator]
        case ">=":
            return value >= wanted  # type: ignore[operator]
        case "prefix":
            return str(value).startswith(str(wanted))
        case "ends":
            return str(value).endswith(str(wanted))
        case "has":
            return str(wanted) in str(value)
        case "in":
            return False
        case _:
            assert_never(compare.op)


def _exact(compares: Sequence[Compare]) -> list[Scalar] | None:
    """The values that are left when some comparison is an equality; None when none is."""
    for compare in compares:
        if compare.op in ("=", "in"):
            listed = compare.value if isinstance(compare.value, tuple) else (compare.value,)
            return [
                value
                for value in dict.fromkeys(listed)
                if _storable(value) and all(passes(value, other) for other in compares)
            ]
    return None


def _keys(params: Sequence[int], compares: Sequence[Compare]) -> list[Any]:
    """Conditions on a stored key, which is prefixed by its param: one for all params, or one for each."""
    exact = _exact(compares)
    if exact is not None:
        values = [prefix_of(param) + str(value) for param in params for value in exact]
        return [one_of(values)] if values else []
    conditions = []
    for param in params:
        condition = _column(compares, prefix_of(param))
        if condition is not None:
            conditions.append(condition)
    return conditions


class _Impossible(Exception):
    """No value passes."""


def _column(compares: Sequence[Compare], prefix: str = "") -> Any | None:
    """The condition on one text or integer column; None when nothing can pass. `prefix` leads every stored value."""
    try:
        return _condition(compares, prefix)
    except _Impossible:
        return None


def _condition(compares: Sequence[Compare], prefix: str) -> Any | None:
    if not prefix:
        exact = _exact(compares)
        if exact is not None:
            return one_of(exact) if exact else None
    lower: tuple[Scalar, bool] | None = (prefix, True) if prefix else None
    upper: tuple[Scalar, bool] | None = (prefix[:-1] + AFTER_SEPARATOR, False) if prefix else None
    patterns: list[str] = []
    for compare in compares:
        value = compare.value
        assert not isinstance(value, tuple)
        if not _storable(value):
            return None
        if isinstance(value, str):
            value = prefix + value
        elif prefix:
            return None
        match compare.op:
            case ">" | ">=":
                lower = _tighter(lower, (value, compare.op == ">="), upwards=True)
            case "<" | "<=":
                upper = _tighter(upper, (value, compare.op == "<="), upwards=False)
            case "prefix":
                lower = _tighter(lower, (value, True), upwards=True)
                beyond = successor(str(value))
                if beyond is not None:
                    upper = _tighter(upper, (beyond, False), upwards=False)
            case "ends" | "has":
                text = str(compare.value)
                if "\0" in text:
                    return None  # no key holds U+0000, and a pattern cannot
                if text:
                    patterns.append(re.escape(text) + (r"\z" if compare.op == "ends" else ""))
            case "=" | "in":
                raise AssertionError("equalities were taken out before")
            case _:
                assert_never(compare.op)
    if lower is not None and upper is not None and not _ordered(lower[0], upper[0]):
        return None
    condition: Filter = {}
    if lower is not None:
        condition["$gte" if lower[1] else "$gt"] = lower[0]
    if upper is not None:
        condition["$lte" if upper[1] else "$lt"] = upper[0]
    if patterns:
        condition["$regex"] = _pattern(prefix, patterns)
    return condition


def _ordered(low: Scalar, high: Scalar) -> bool:
    return type(low) is type(high) and low <= high  # type: ignore[operator]


def _tighter(old: tuple[Scalar, bool] | None, new: tuple[Scalar, bool], *, upwards: bool) -> tuple[Scalar, bool]:
    """The stricter of two bounds (value, inclusive). Raises: _Impossible for bounds of two types, which exclude each
    other."""
    if old is None:
        return new
    if type(old[0]) is not type(new[0]):
        raise _Impossible
    if old[0] == new[0]:
        return (old[0], old[1] and new[1])
    if upwards:
        return max(old, new)
    return min(old, new)


def _pattern(prefix: str, patterns: Sequence[str]) -> str:
    """A regular expression of literals that are all found behind `prefix`, in any order."""
    if not prefix and len(patterns) == 1:
        pattern = patterns[0]
    elif len(patterns) == 1:
        pattern = "^" + re.escape(prefix) + r"[\s\S]*" + patterns[0]
    else:
        pattern = "^" + re.escape(prefix) + "".join(rf"(?=[\s\S]*{one})" for one in patterns)
    if len(pattern.encode()) > MAX_PATTERN:
        raise errors.TooCostly("A value of this search is too long to look for inside others.")
    return pattern


def successor(text: str) -> str | None:
    """The least text, by code point, above every text that starts with `text`; None when there is none."""
    for end in range(len(text) - 1, -1, -1):
        point = ord(text[end])
        if point < 0x10FFFF:
            following = point + 1
            if 0xD800 <= following <= 0xDFFF:  # surrogates are no characters
                following = 0xE000
            return text[:end] + chr(following)
    return None


# --- order ------------------------------------------------------------------------------------------------------------

TEXT_END = "\x01"
"""Ends a text in a sort text; below every character of a key, so that "a" sorts before "ab"."""


def sort_text(value: Scalar, s: int, *, descending: bool) -> str:
    """One text that sorts like (value, s): a single index path then holds a whole `_sort` with its ties.

    Shape: `value` as 16 hexadecimal digits, or as itself and U+0001; then `s` as 16 digits. Read from the low end
    ascending and from the high end descending; for the latter `s` is inverted, since ties are in order of creation both
    ways.
    """
    tie = f"{INTEGER_RANGE - 1 - s if descending else s:016x}"
    if isinstance(value, int):
        return f"{value + INTEGER_RANGE:016x}{tie}"
    return f"{value}{TEXT_END}{tie}"


def sort_value(text: str) -> Scalar:
    """The value that `sort_text` was given."""
    if TEXT_END in text:
        return text[: text.index(TEXT_END)]
    return int(text[:16], 16) - INTEGER_RANGE


def entries_between(params: Sequence[int], array: Any, member: str = "", prefix: str = "") -> Filter:
    """An aggregation expression: the elements of `array` that are entries of one of `params`, of keys that begin with
    `prefix` (ASCII).
    """
    name = "$$e" + member
    bounds = [(prefix_of(param), end_of(param)) for param in params]
    if prefix:
        after = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        bounds = [(prefix_of(param) + prefix, prefix_of(param) + after) for param in params]
    tests = [{"$and": [{"$gte": [name, first]}, {"$lt": [name, end]}]} for first, end in bounds]
    condition = tests[0] if len(tests) == 1 else {"$or": tests}
    return {"$filter": {"input": {"$ifNull": [array, []]}, "as": "e", "cond": condition}}


def sort_expression(key: SortKey, mode: Mode) -> Any:
    """An aggregation expression: the value that a document is sorted by; null when it has none.

    Values of shape "key" keep their prefix when there is one param: it is the same for all. See `key_prefix`.
    """
    extreme = "$max" if key.descending else "$min"
    params = shifted(key.params, mode)
    match key.shape:
        case "updated":
            return "$updated"
        case "id":
            return "$id"
        case "key":
            if not params:
                return None
            found = entries_between(params, "$k", prefix=key.prefix)
            if len(params) == 1:
                return {extreme: found}
            behind = {"$add": [{"$indexOfBytes": ["$$e", SEPARATOR]}, 1]}
            bare = {"$substrBytes": ["$$e", behind, {"$strLenBytes": "$$e"}]}
            return {extreme: {"$map": {"input": found, "as": "e", "in": bare}}}
        case "range":
            if not params:
                return None
            found = entries_between(params, "$r", ".k")
            return {extreme: {"$map": {"input": found, "as": "e", "in": "$$e.h" if key.descending else "$$e.l"}}}
        case _:
            assert_never(key.shape)


def key_prefix(key: SortKey, mode: Mode) -> str:
    """What `sort_expression` leaves in front of the values."""
    params = shifted(key.params, mode)
    return prefix_of(params[0]) if key.shape == "key" and len(params) == 1 else ""
