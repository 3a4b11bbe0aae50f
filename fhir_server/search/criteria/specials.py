"""``:missing``, and what all resources have: ``_id``, ``_lastUpdated``, ``_list``, words.

R4 search.html#all, #missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from fhir_server.errors import BadRequest, Issue, NotSupported
from fhir_server.search.ast import (
    ANY,
    EVERYTHING,
    NOTHING,
    And,
    AnyOf,
    Compare,
    Exists,
    Field,
    Linked,
    LinkedFrom,
    Node,
    Not,
    Or,
    Select,
)
from fhir_server.search.criteria.plans import Context, Plan, Types, bad, boolean, conjunction, either
from fhir_server.search.criteria.ranged import date_range
from fhir_server.search.parse import unescape
from fhir_server.search.ranges import split_prefix
from fhir_server.search.registry import IDENTIFIER, TEXT, WORDS, Param
from fhir_server.search.values import query_words

Special: TypeAlias = Callable[[Context, Types, str | None], Plan]


def missing_plan(context: Context, param: Param) -> Plan:
    """search.html#missing: an element that has only extensions is missing, too (3.1.1.4.4)."""
    variants = {"token": (0, TEXT), "reference": (0, TEXT, IDENTIFIER), "string": (0,)}.get(param.type, (0,))
    if param.usage == "phonetic":
        variants = (WORDS,)
    present: Node = Exists(param.variant(*variants), param.shape, ANY)
    if param.restrict:
        inside = Linked(param.numbers, Select((param.restrict,), EVERYTHING, "only"))
        here = AnyOf((Compare("key", "prefix", f"{param.restrict}/"), Compare("key", "has", f"/{param.restrict}/")))
        present = Or((Exists(param.numbers, "key", here), inside))
    absent = Not(present)

    def plan(values: tuple[str, ...], issues: list[Issue]) -> Node:
        return either([absent if boolean(value, "`:missing`") else present for value in values])

    return plan


def _id(context: Context, types: Types, modifier: str | None) -> Plan:
    if modifier == "missing":
        return lambda values, issues: either(
            [NOTHING if boolean(value, "`:missing`") else EVERYTHING for value in values]
        )
    if modifier not in (None, "not"):
        raise NotSupported(f"`_id` does not support the modifier `:{modifier}`.")

    def plan(values: tuple[str, ...], issues: list[Issue]) -> Node:
        ids = tuple(dict.fromkeys(unescape(value) for value in values))
        node = Field("id", "=", ids[0]) if len(ids) == 1 else Field("id", "in", ids)
        return Not(node) if modifier == "not" else node

    return plan


def _last_updated(context: Context, types: Types, modifier: str | None) -> Plan:
    if modifier == "missing":
        return _id(context, types, modifier)
    if modifier is not None:
        raise NotSupported(f"`_lastUpdated` does not support the modifier `:{modifier}`.")

    def plan(values: tuple[str, ...], issues: list[Issue]) -> Node:
        return either([_updated(context, value) for value in values])

    return plan


def _updated(context: Context, text: str) -> Node:
    """meta.lastUpdated is an instant, a point."""
    prefix, rest = split_prefix(text)
    a, b = date_range(context, "_lastUpdated", rest)
    if prefix == "ap":
        gap = abs(context.settings.now() - a) // 10
        a, b = a - gap, b + gap
    match prefix:
        case "eq" | "ap":
            return And((Field("updated", ">=", a), Field("updated", "<", b)))
        case "ne":
            return Or((Field("updated", "<", a), Field("updated", ">=", b)))
        case "gt" | "sa":
            return Field("updated", ">=", b)
        case "ge":
            return Field("updated", ">=", a)
        case "lt" | "eb":
            return Field("updated", "<", a)
        case _:
            return Field("updated", "<", b)


def _type(context: Context, types: Types, modifier: str | None) -> Plan:
    if modifier is not None:
        raise NotSupported(f"`_type` does not support the modifier `:{modifier}`.")

    def plan(values: tuple[str, ...], issues: list[Issue]) -> Node:
        if not set(values) <= context.all_types:
            raise BadRequest("`_type` names a resource type that R4 does not have.", code="value")
        return Field("type", "in", values)

    return plan


def _list(context: Context, types: Types, modifier: str | None) -> Plan:
    """``_list``: what the entries of a List refer to. R4 search.html#list; the functional lists are not kept
    here.
    """
    if modifier is not None:
        raise NotSupported(f"`_list` does not support the modifier `:{modifier}`.")
    item = context.registry.params("List")["item"]

    def plan(values: tuple[str, ...], issues: list[Issue]) -> Node:
        ids = []
        for value in values:
            if value.startswith("$"):
                raise BadRequest("Functional lists (`$current-...`) are not supported.", code="not-supported")
            key, named = context.references.key(unescape(value))
            ids.append(key.removeprefix("List/") if named == "List" else key)
        return LinkedFrom(item.numbers, Select(("List",), Field("id", "in", tuple(ids))))

    return plan


def _words(code: str) -> Special:
    """``_text`` and ``_content``: every word, in any order."""

    def build(context: Context, types: Types, modifier: str | None) -> Plan:
        if modifier is not None:
            raise NotSupported(f"`{code}` does not support the modifier `:{modifier}`.")
        if not context.settings.fulltext:
            raise BadRequest(f"`{code}` needs the word index, which is switched off here.", code="not-supported")
        found = context.param(types, code)
        numbers = (
            tuple(number for param in found for number in param.numbers) if isinstance(found, list) else found.numbers
        )

        def plan(values: tuple[str, ...], issues: list[Issue]) -> Node:
            alternatives: list[Node] = []
            for value in values:
                words, beginnings = query_words(unescape(value))
                if not words and not beginnings:
                    raise bad(f"A value of `{code}` has no word.")
                parts: list[Node] = [Exists(numbers, "key", Compare("key", "=", word)) for word in words]
                parts += [Exists(numbers, "key", Compare("key", "prefix", start)) for start in beginnings]
                alternatives.append(conjunction(parts))
            return either(alternatives)

        return plan

    return build


def _query(context: Context, types: Types, modifier: str | None) -> Plan:
    # search.html#query: a server SHALL refuse a named query that it does not know; there are none here.
    raise BadRequest("Named queries (`_query`) are not supported.", code="not-supported")


SPECIALS: Final[Mapping[str, Special]] = {
    "_id": _id,
    "_lastUpdated": _last_updated,
    "_type": _type,
    "_list": _list,
    "_query": _query,
    "_text": _words("_text"),
    "_content": _words("_content"),
}
