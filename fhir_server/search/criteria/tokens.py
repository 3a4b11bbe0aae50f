"""Tokens: codes with and without a system, identifiers, value sets and hierarchies of codes. R4 search.html#token."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import methodcaller
from typing import Any, Final

from fhir_server.errors import BadRequest, Issue
from fhir_server.search.ast import AllOf, AnyOf, Column, Compare, Exists, Node, Not, Test
from fhir_server.search.criteria.plans import Context, Plan, bad, one_of, unsupported
from fhir_server.search.criteria.strings import text_plan
from fhir_server.search.parse import split, unescape
from fhir_server.search.paths import Branch
from fhir_server.search.registry import OF_TYPE, Param
from fhir_server.search.settings import Sealing
from fhir_server.search.values import AFTER_MARK, EXACT, MARK, fold, token_key

_BOOLEAN_SYSTEMS: Final = frozenset(
    {"http://hl7.org/fhir/special-values", "http://terminology.hl7.org/CodeSystem/special-values"}
)
_FROM_IDENTIFIERS: Final = frozenset(("Identifier", "Extension", "string"))


def token_keys(
    context: Context, text: str, suffix: str = "", column: Column = "key", *, identifiers: bool = True
) -> Test:
    """The test of one token ``code``, ``system|code``, ``|code`` or ``system|``; keys continue with `suffix`.

    `identifiers`: a code without a system may also be the value of an identifier.
    """
    parts = split(text, "|")
    if len(parts) > 2:
        raise bad("A token is written `code`, `system|code`, `|code` or `system|`.")
    if len(parts) == 1:
        code = unescape(text)
        test = any_system(code, suffix, column)
        sealing = context.settings.sealing
        if sealing is None or not identifiers:
            return test
        return AnyOf((test, _sealed(context, sealing, set(sealing.systems.values()), code, suffix, column)))
    system, code = unescape(parts[0]), unescape(parts[1])
    sealing = context.settings.sealing
    if sealing is not None and system in sealing.systems:
        system = sealing.systems[system]
        if code:
            return _sealed(context, sealing, {system}, code, suffix, column)
    if system in _BOOLEAN_SYSTEMS:
        system = ""
    if code:
        return Compare(column, "=", context.token_key(system, code) + suffix)
    if not system:
        raise bad("A token needs a system or a code.")
    return AnyOf(
        (Compare(column, "ends", f"{MARK}{system}{suffix}"), Compare(column, "ends", f"{EXACT}{system}{suffix}"))
    )


def _sealed(
    context: Context, sealing: Sealing, systems: Iterable[str], value: str, suffix: str, column: Column
) -> Test:
    """The test of an identifier that is stored encrypted."""
    keys = tuple(
        context.token_key(system, form) + suffix for system in sorted(systems) for form in sealing.forms(value)
    )
    return Compare(column, "=", keys[0]) if len(keys) == 1 else Compare(column, "in", keys)


def may_identify(branches: tuple[Branch, ...] | None) -> bool:
    """Whether values of these elements (none: of whatever a custom expression finds) may come from an identifier."""
    return not branches or any(branch.type in _FROM_IDENTIFIERS for branch in branches)


def token_plan(context: Context, param: Param, modifier: str | None) -> Plan:
    numbers = param.numbers
    identifiers = may_identify(param.branches)
    if modifier is None or modifier == "not":
        negative = modifier == "not"

        def plan(values: tuple[str, ...], issues: list[Issue]) -> Node:
            if len(values) == 1:
                node: Node = Exists(numbers, "key", token_keys(context, values[0], identifiers=identifiers))
            else:
                tests = [token_keys(context, value, identifiers=identifiers) for value in values]
                node = Exists(numbers, "key", one_of(tests))
            return Not(node) if negative else node

        return plan
    if modifier == "text":
        return text_plan(param)
    if modifier == "of-type":
        return _of_type(context, param)
    if modifier in ("in", "not-in"):
        return _value_sets(context, param, modifier == "not-in")
    if modifier in ("above", "below"):
        return _subsumed(context, param, modifier)
    raise unsupported(param, modifier)


def _terms(context: Context, ask: Callable[[Any], Any], canonical: str) -> Any:
    """What the terminology says; its refusals as 400 ``not-found`` that name the canonical."""
    terminology = context.settings.terminology
    if terminology is None:
        raise BadRequest(f"`{canonical}` is not known to this server.", code="not-found")
    try:
        return ask(terminology)
    except BadRequest:
        raise
    except Exception as error:
        named = getattr(error, "url", None)
        if named is None:
            raise
        reason = getattr(error, "reason", "")
        raise BadRequest(
            f"`{named}` cannot be expanded here: {reason}" if reason else f"`{named}` is not known to this server.",
            code="not-found",
        ) from None


def _value_sets(context: Context, param: Param, negative: bool) -> Plan:
    numbers = param.numbers
    plain_codes = any(branch.type != "Coding" and branch.type != "CodeableConcept" for branch in param.branches or ())

    def plan(values: tuple[str, ...], issues: list[Issue]) -> Node:
        tests: list[Test] = []
        for value in values:
            canonical = unescape(value)
            tests.extend(_expanded(context, _terms(context, methodcaller("expand", canonical), canonical), plain_codes))
        node = Exists(numbers, "key", one_of(tests))
        return Not(node) if negative else node

    return plan


def _expanded(context: Context, expansion: Any, plain_codes: bool) -> list[Test]:
    keys: dict[str, None] = {}
    for system, codes in expansion.codes.items():
        for code in codes:
            keys[context.token_key(system, code)] = None
            if plain_codes:
                # An element of type code, whose system was not known when it was indexed.
                keys[token_key("", code)] = None
    tests: list[Test] = [Compare("key", "in", tuple(sorted(keys)))] if keys else []
    for system, left_out in expansion.whole.items():
        whole: Test = AnyOf((Compare("key", "ends", f"{MARK}{system}"), Compare("key", "ends", f"{EXACT}{system}")))
        out = sorted(context.token_key(system, code) for code in left_out)
        other = [AnyOf((Compare("key", "<", key), Compare("key", ">", key))) for key in out]
        tests.append(AllOf((whole, *other)) if other else whole)
    return tests


def _subsumed(context: Context, param: Param, modifier: str) -> Plan:
    numbers = param.numbers

    def plan(values: tuple[str, ...], issues: list[Issue]) -> Node:
        tests: list[Test] = []
        for value in values:
            parts = split(value, "|")
            if len(parts) != 2 or not all(parts):
                raise bad(f"`{param.code}:{modifier}` needs `system|code`.")
            system, code = unescape(parts[0]), unescape(parts[1])

            def ask(terminology: Any, system: str = system, code: str = code) -> Any:
                try:
                    related = terminology.descendants if modifier == "below" else terminology.ancestors
                    return related(system, code)
                except Exception as error:
                    # A code that its known system does not have is above and below nothing but itself.
                    if getattr(error, "url", None) is None and getattr(error, "code", None) is not None:
                        return ()
                    raise

            related = _terms(context, ask, system)
            keys = sorted({context.token_key(system, one) for one in (code, *related)})
            tests.append(Compare("key", "in", tuple(keys)))
        return Exists(numbers, "key", one_of(tests))

    return plan


def any_system(code: str, suffix: str = "", column: Column = "key") -> Test:
    """A code in whatever system. Both marks are neighbours, so for a code that folding leaves alone this is one
    range.
    """
    folded = fold(code)
    if suffix:
        end = Compare(column, "ends", suffix)
        return AllOf((any_system(code, "", column), end))
    if folded == code:
        return AllOf((Compare(column, ">=", code + EXACT), Compare(column, "<", code + AFTER_MARK)))
    return AnyOf((Compare(column, "prefix", folded + MARK), Compare(column, "prefix", code + EXACT)))


def _of_type(context: Context, param: Param) -> Plan:
    if not any(branch.type == "Identifier" for branch in param.branches or ()):
        raise unsupported(param, "of-type")
    numbers = param.variant(OF_TYPE)

    def plan(values: tuple[str, ...], issues: list[Issue]) -> Node:
        keys = []
        for value in values:
            parts = [unescape(part) for part in split(value, "|")]
            if len(parts) != 3 or not all(parts):
                raise bad(f"`{param.code}:of-type` needs `system|code|value`.")
            system, code, text = parts
            sealing = context.settings.sealing
            for form in (fold(text), *(sealing.forms(text) if sealing is not None else ())):
                keys.append(f"{form}{MARK}{code}{MARK}{system}")
        return Exists(numbers, "key", one_of([Compare("key", "=", key) for key in keys]))

    return plan
