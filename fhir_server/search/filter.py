"""``_filter``: expressions of search parameters. R4 search_filter.html.

Grammar::

    filter    = term (("and" | "or") term)*          left to right, no precedence
    term      = "not"? "(" filter ")" | path operator value
    path      = name ("[" filter "]")? ("." path)?    a chain; the filter in brackets holds for what is referred to
    value     = JSON string | token (up to a blank, a comma, ")" or "]")
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from fhir_server.errors import BadRequest, Issue, NotSupported
from fhir_server.search.ast import (
    ANY,
    AllOf,
    And,
    AnyOf,
    Compare,
    Exists,
    Linked,
    Node,
    Not,
    Or,
    Select,
    Test,
)
from fhir_server.search.criteria.plans import Context, Leaf, Types, Unknown, plain
from fhir_server.search.criteria.ranged import date_kinds, date_range
from fhir_server.search.criteria.tokens import may_identify, token_keys
from fhir_server.search.ranges import overlap_windows, split_prefix, window_test
from fhir_server.search.registry import Param
from fhir_server.search.values import EXACT, MARK, fold, normalize

MAX_LENGTH: Final = 8_000
MAX_DEPTH: Final = 20
MAX_TERMS: Final = 100

OPERATORS: Final = frozenset(
    {"eq", "ne", "co", "sw", "ew", "gt", "lt", "ge", "le", "ap", "sa", "eb", "pr", "po", "ss", "sb", "in", "ni", "re"}
)

_BLANK: Final = re.compile(r"\s*")
_WORD: Final = re.compile(r"[A-Za-z]+")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_\-]*(?::[A-Z][A-Za-z]+)?")
_TOKEN: Final = re.compile(r"[^\s,)\]]+")
_QUOTED: Final = re.compile(r'"(?:[^"\\]|\\.)*"')


def filter_node(context: Context, leaf: Leaf, types: Types, text: str, issues: list[Issue]) -> Node:
    """The node of a filter expression. Raises BadRequest for syntax, unknown parameters and operators that do not
    fit.

    `leaf` makes the plan of a parameter.
    """
    if len(text) > MAX_LENGTH:
        raise BadRequest(f"A filter has at most {MAX_LENGTH} characters.", code="too-costly")
    reader = _Reader(context, leaf, text, issues)
    node = reader.filter(types, 0)
    reader.blank()
    if reader.at != len(text):
        raise reader.error("an end, `and` or `or`")
    return node


def escape(text: str) -> str:
    """Text as a search value that means itself."""
    return re.sub(r"([\\,$|])", r"\\\1", text)


class _Reader:
    def __init__(self, context: Context, leaf: Leaf, text: str, issues: list[Issue]) -> None:
        self.context, self.plan, self.text, self.issues = context, leaf, text, issues
        self.at = 0
        self.terms = 0
        self.work = 0

    def error(self, wanted: str) -> BadRequest:
        return BadRequest(f"`_filter` is malformed: {wanted} is expected at character {self.at + 1}.")

    def blank(self) -> None:
        match = _BLANK.match(self.text, self.at)
        assert match is not None
        self.at = match.end()

    def peek_word(self) -> str:
        match = _WORD.match(self.text, self.at)
        return match.group() if match else ""

    def take(self, character: str) -> bool:
        if self.text[self.at : self.at + 1] != character:
            return False
        self.at += 1
        return True

    def filter(self, types: Types, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise BadRequest(f"A filter is nested at most {MAX_DEPTH} deep.", code="too-costly")
        node = self.term(types, depth)
        while True:
            self.blank()
            word = self.peek_word()
            if word not in ("and", "or"):
                return node
            self.at += len(word)
            right = self.term(types, depth)
            node = And((node, right)) if word == "and" else Or((node, right))

    def term(self, types: Types, depth: int) -> Node:
        self.terms += 1
        self.work += 1
        if self.terms > MAX_TERMS or self.work > 20 * MAX_TERMS:
            raise BadRequest(f"A filter has at most {MAX_TERMS} terms.", code="too-costly")
        self.blank()
        start = self.at
        if self.peek_word() == "not":
            self.at += 3
            self.blank()
            if self.take("("):
                return Not(self.closed(types, depth))
            self.at = start
        if self.take("("):
            return self.closed(types, depth)
        return self.path(types, depth)

    def closed(self, types: Types, depth: int) -> Node:
        node = self.filter(types, depth + 1)
        self.blank()
        if not self.take(")"):
            raise self.error("`)`")
        return node

    def path(self, types: Types, depth: int) -> Node:
        match = _NAME.match(self.text, self.at)
        if match is None:
            raise self.error("the name of a search parameter")
        self.at = match.end()
        name = match.group()
        inside = self.at
        if self.text[self.at : self.at + 1] in ("[", "."):
            return self.chain(types, name, inside, depth)
        if ":" in name:
            raise self.error("`.`")
        self.blank()
        operator = self.peek_word()
        if operator not in OPERATORS:
            raise self.error("an operator")
        self.at += len(operator)
        self.blank()
        value, quoted = self.value()
        return self.compare(types, name, operator, value, quoted)

    def chain(self, types: Types, name: str, inside: int, depth: int) -> Node:
        code, _, named = name.partition(":")
        param = self.parameter(types, code)
        if param.type != "reference":
            raise BadRequest("A path in `_filter` continues after reference parameters only.", code="not-supported")
        targets = param.targets
        if named:
            if named not in targets:
                raise BadRequest(f"`{code}` does not refer to {named}.", code="value")
            targets = (named,)
        # Of several target types those count that define everything that follows, as with chained parameters.
        found: list[Node] = []
        problem: BadRequest | None = None
        end, terms = self.at, self.terms
        for target in targets:
            self.at, self.terms = inside, terms
            self.work += 1
            try:
                parts: list[Node] = []
                if self.take("["):
                    parts.append(self.filter((target,), depth + 1))
                    self.blank()
                    if not self.take("]"):
                        raise self.error("`]`")
                if self.take("."):
                    parts.append(self.path((target,), depth + 1))
                elif not parts:
                    raise self.error("`.`")
            except BadRequest as error:
                if error.issues[0].code == "too-costly":
                    raise
                problem = problem or error
                continue
            end = self.at
            where = parts[0] if len(parts) == 1 else And(tuple(parts))
            found.append(Linked(param.numbers, Select((target,), where, "both")))
        if not found:
            raise problem or BadRequest(f"`{code}` refers to nothing that can be searched.", code="not-supported")
        self.at = end
        return found[0] if len(found) == 1 else Or(tuple(found))

    def parameter(self, types: Types, code: str) -> Param:
        try:
            found = self.context.param(types, code)
        except Unknown as unknown:
            raise BadRequest(str(unknown), code="not-supported") from None
        if isinstance(found, list):
            raise BadRequest(f"`{code}` means different things for these types; filter one type.", code="not-supported")
        self.context.check_ready(found)
        return found

    def value(self) -> tuple[str, bool]:
        quoted = _QUOTED.match(self.text, self.at)
        if quoted is not None:
            self.at = quoted.end()
            try:
                return msgspec.json.decode(quoted.group().encode(), type=str), True
            except (msgspec.DecodeError, msgspec.ValidationError):
                raise self.error("a JSON string") from None
        token = _TOKEN.match(self.text, self.at)
        if token is None or token.group().startswith('"'):
            raise self.error("a value")
        self.at = token.end()
        return token.group(), False

    # --- comparisons --------------------------------------------------------------------------------------------------

    def leaf(self, types: Types, name: str, modifier: str | None, value: str) -> Node:
        try:
            plan = self.plan(types, name, modifier)
        except Unknown as unknown:
            raise BadRequest(str(unknown), code="not-supported") from None
        return plain(plan((value,), self.issues))

    def compare(self, types: Types, name: str, operator: str, value: str, quoted: bool) -> Node:
        if operator == "pr":
            if value not in ("true", "false"):
                raise self.error("`true` or `false`")
            return self.leaf(types, name, "missing", "false" if value == "true" else "true")
        if name in ("_id", "_lastUpdated", "_type", "_list", "_text", "_content"):
            return self.special(types, name, operator, value)
        param = self.parameter(types, name)
        literal = escape(value) if quoted else value
        match param.type:
            case "token":
                return self.token(types, param, operator, literal, value)
            case "string":
                return self.string(types, param, operator, value)
            case "reference":
                if operator in ("eq", "re"):
                    return self.leaf(types, name, None, escape(value))
                if operator == "ne":
                    return And((Exists(param.numbers, "key", ANY), Not(self.leaf(types, name, None, escape(value)))))
            case "uri":
                return self.uri(types, param, operator, value)
            case "date":
                if operator == "po":
                    return self.overlap(param, value)
                if operator in ("eq", "ne", "gt", "lt", "ge", "le", "ap", "sa", "eb"):
                    return self.leaf(types, name, None, f"{operator}{value}")
            case "number" | "quantity":
                if operator in ("eq", "ne", "gt", "lt", "ge", "le", "ap", "sa", "eb"):
                    return self.leaf(types, name, None, f"{operator}{value}")
            case _:
                if operator == "eq":
                    return self.leaf(types, name, None, value)
        raise _unfit(param, operator)

    def special(self, types: Types, name: str, operator: str, value: str) -> Node:
        if name == "_lastUpdated" and operator in ("eq", "ne", "gt", "lt", "ge", "le", "ap", "sa", "eb"):
            return self.leaf(types, name, None, f"{operator}{value}")
        if operator == "eq" or (operator == "co" and name in ("_text", "_content")):
            return self.leaf(types, name, None, escape(value))
        if operator == "ne" and name in ("_id", "_type"):
            return Not(self.leaf(types, name, None, escape(value)))
        raise NotSupported(f"`{name}` does not support the operator `{operator}` in `_filter`.")

    def token(self, types: Types, param: Param, operator: str, literal: str, value: str) -> Node:
        modifier = {"eq": None, "in": "in", "ni": "not-in", "ss": "below", "sb": "above"}.get(operator, "")
        if modifier != "":
            return self.leaf(types, param.code, modifier, escape(value) if operator in ("in", "ni") else literal)
        if operator == "ne":
            return Exists(
                param.numbers,
                "key",
                negated(token_keys(self.context, literal, identifiers=may_identify(param.branches))),
            )
        if operator == "sw":
            test: Test = AnyOf((Compare("key", "prefix", fold(value)), Compare("key", "prefix", value)))
            return Exists(param.numbers, "key", test)
        if operator == "ew":
            test = AnyOf((Compare("key", "has", fold(value) + MARK), Compare("key", "has", value + EXACT)))
            return Exists(param.numbers, "key", test)
        raise _unfit(param, operator)

    def string(self, types: Types, param: Param, operator: str, value: str) -> Node:
        folded = normalize(value) or MARK + value
        equal = AnyOf((Compare("key", "=", folded), Compare("key", "prefix", folded + MARK)))
        match operator:
            case "eq":
                test: Test = equal
            case "ne":
                test = negated(equal)
            case "co":
                test = Compare("key", "has", folded)
            case "sw":
                test = Compare("key", "prefix", folded)
            case "ew":
                test = AnyOf((Compare("key", "ends", folded), Compare("key", "has", folded + MARK)))
            case _:
                raise _unfit(param, operator)
        return Exists(param.numbers, "key", test)

    def uri(self, types: Types, param: Param, operator: str, value: str) -> Node:
        match operator:
            case "eq" | "re":
                return self.leaf(types, param.code, None, escape(value))
            case "ne":
                return Exists(param.numbers, "key", AnyOf((Compare("key", "<", value), Compare("key", ">", value))))
            case "co":
                return Exists(param.numbers, "key", Compare("key", "has", value))
            case "sw":
                return Exists(param.numbers, "key", Compare("key", "prefix", value))
            case "ew":
                return Exists(param.numbers, "key", Compare("key", "ends", value))
            case "ss":
                return self.leaf(types, param.code, "below", escape(value))
            case "sb":
                return self.leaf(types, param.code, "above", escape(value))
        raise _unfit(param, operator)

    def overlap(self, param: Param, value: str) -> Node:
        _, rest = split_prefix(value)
        a, b = date_range(self.context, param.code, rest)
        return Exists(param.numbers, "range", window_test(overlap_windows(a, b, date_kinds(param.branches))))


def _unfit(param: Param, operator: str) -> NotSupported:
    return NotSupported(f"`{param.code}` ({param.type}) does not support the operator `{operator}` in `_filter`.")


def negated(test: Test) -> Test:
    """The test that an entry passes when it does not pass `test`. Raises NotSupported for endings and substrings."""
    match test:
        case AllOf(tests=tests):
            return AnyOf(tuple(negated(one) for one in tests))
        case AnyOf(tests=tests):
            return AllOf(tuple(negated(one) for one in tests))
        case Compare(column=column, op=operator, value=value):
            if operator in _OPPOSITE:
                opposite: Any = _OPPOSITE[operator]
                return Compare(column, opposite, value)
            if operator == "=":
                return AnyOf((Compare(column, "<", value), Compare(column, ">", value)))
            if operator == "in" and isinstance(value, tuple):
                return AllOf(tuple(negated(Compare(column, "=", one)) for one in value))
            if operator == "prefix" and isinstance(value, str) and value:
                beyond = value[:-1] + chr(ord(value[-1]) + 1)
                return AnyOf((Compare(column, "<", value), Compare(column, ">=", beyond)))
    raise NotSupported("`ne` cannot be decided for this value in `_filter`.")


_OPPOSITE: Final = {"<": ">=", "<=": ">", ">": "<=", ">=": "<"}
