"""Strings: beginnings, ``:exact``, ``:contains``, ``:text`` of other types, sounds. R4 search.html#string."""

from __future__ import annotations

from fhir_server.errors import Issue
from fhir_server.search.ast import NOTHING, Column, Compare, Exists, Node, Or, Test
from fhir_server.search.criteria.plans import NEVER, Plan, conjunction, either, one_of, unsupported
from fhir_server.search.parse import unescape
from fhir_server.search.registry import TEXT, WORDS, Param
from fhir_server.search.values import MARK, WORD_LENGTH, normalize, phonetic_keys, string_key


def string_test(value: str, column: Column = "key") -> Test:
    """Fields that begin with a value; one that is only punctuation meets fields that are, too."""
    folded = normalize(value)
    return Compare(column, "prefix", folded or MARK + value)


def string_plan(param: Param, modifier: str | None) -> Plan:
    if modifier == "exact":
        return lambda values, issues: Exists(
            param.numbers, "key", one_of([Compare("key", "=", string_key(unescape(value))) for value in values])
        )
    if modifier == "contains":

        def contains(value: str) -> Test:
            folded = normalize(value)
            return Compare("key", "has", folded or MARK + value)

        return lambda values, issues: Exists(
            param.numbers, "key", one_of([contains(unescape(value)) for value in values])
        )
    if modifier is not None:
        raise unsupported(param, modifier)
    numbers = param.variant(0, WORDS) if param.words else param.numbers
    words = param.variant(WORDS)

    def plan(values: tuple[str, ...], issues: list[Issue]) -> Node:
        texts = [unescape(value) for value in values]
        node = Exists(numbers, "key", one_of([string_test(text) for text in texts]))
        long = [normalize(text)[:WORD_LENGTH] for text in texts if len(text) > WORD_LENGTH] if param.words else []
        if not long:
            return node
        # Keys of later words end after WORD_LENGTH characters, and so does what is compared with them.
        return Or((node, Exists(words, "key", one_of([Compare("key", "=", text) for text in long if text] or [NEVER]))))

    return plan


def text_plan(param: Param) -> Plan:
    """``:text`` on tokens and references: their displays and texts, as strings. R4 search.html#modifiers."""
    numbers = param.variant(TEXT)
    return lambda values, issues: Exists(numbers, "key", one_of([string_test(unescape(value)) for value in values]))


def phonetic_plan(param: Param, modifier: str | None) -> Plan:
    if modifier is not None:
        raise unsupported(param, modifier)
    numbers = param.variant(WORDS)

    def plan(values: tuple[str, ...], issues: list[Issue]) -> Node:
        alternatives: list[Node] = []
        for value in values:
            words = normalize(unescape(value)).split()
            if not words:
                alternatives.append(NOTHING)
                continue
            alternatives.append(
                conjunction(
                    [Exists(numbers, "key", Compare("key", "in", tuple(phonetic_keys(word)))) for word in words]
                )
            )
        return either(alternatives)

    return plan
