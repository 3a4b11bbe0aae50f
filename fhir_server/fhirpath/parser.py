"""FHIRPath text to syntax tree: FHIRPath N1, section 12 and its ANTLR grammar, by recursive descent.

Beyond the grammar, because R4 itself writes it: ``%vs-name`` and ``%ext-name`` without quotes, and any word after a dot
(``text.div``).
"""

from __future__ import annotations

import re
from decimal import Decimal
from functools import lru_cache
from typing import Literal as OneOf
from typing import NamedTuple

from fhir_server.fhirpath.ast import (
    Binary,
    Call,
    External,
    Focus,
    Index,
    IndexVar,
    Literal,
    Member,
    Node,
    This,
    Total,
    TypeOp,
    TypeSpecifier,
    Unary,
    children,
)
from fhir_server.fhirpath.dates import parse_temporal
from fhir_server.fhirpath.errors import FhirPathError
from fhir_server.fhirpath.quantities import CALENDAR_UNITS, Quantity

MAX_LENGTH = 65_536
MAX_NESTING = 40  # parentheses, arguments and signs
MAX_DEPTH = 150  # of the tree; a path of 150 members is this deep

_TOKEN = re.compile(
    r"""
    (?P<space>(?:\s+|//[^\n]*|/\*.*?\*/)+)
  | (?P<datetime>@\d{4}(?:-\d\d(?:-\d\d)?)?(?:T(?:\d\d(?::\d\d(?::\d\d(?:\.\d+)?)?)?(?:Z|[+-]\d\d:\d\d)?)?)?)
  | (?P<time>@T\d\d(?::\d\d(?::\d\d(?:\.\d+)?)?)?)
  | (?P<number>\d+(?:\.\d+)?)
  | (?P<string>'(?:[^'\\]|\\.)*')
  | (?P<quoted>`(?:[^`\\]|\\.)*`|"(?:[^"\\]|\\.)*")
  | (?P<external>%(?:(?:vs|ext)-[A-Za-z0-9\-.]*[A-Za-z0-9]|[A-Za-z_][A-Za-z0-9_]*|`(?:[^`\\]|\\.)*`
        |'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"))
  | (?P<special>\$(?:this|index|total)\b)
  | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
  | (?P<op><=|>=|!=|!~|[=~<>+\-*/&|().,\[\]{}])
    """,
    re.VERBOSE | re.ASCII | re.DOTALL,
)

_ESCAPES = {"f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_ESCAPE = re.compile(r"\\(u[0-9A-Fa-f]{4}|.)", re.DOTALL)

# Higher binds tighter. `is` and `as` stand between addition and union; signs and paths bind tighter than all of these.
_PRECEDENCE = {
    "implies": 1,
    "or": 2, "xor": 2,
    "and": 3,
    "in": 4, "contains": 4,
    "=": 5, "~": 5, "!=": 5, "!~": 5,
    "<": 6, "<=": 6, ">": 6, ">=": 6,
    "|": 7,
    "is": 8, "as": 8,
    "+": 9, "-": 9, "&": 9,
    "*": 10, "/": 10, "div": 10, "mod": 10,
}  # fmt: skip

_TYPE_FUNCTIONS = frozenset({"is", "as", "ofType"})


class _Token(NamedTuple):
    kind: str
    text: str
    position: int


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text

    def replace(match: re.Match[str]) -> str:
        code = match[1]
        if len(code) == 5:
            return chr(int(code[1:], 16))
        return _ESCAPES.get(code, code)

    return _ESCAPE.sub(replace, text)


def _tokenize(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise FhirPathError(
                "A FHIRPath expression has a character or an unfinished literal that is not expected.", position
            )
        kind = match.lastgroup or ""
        if kind != "space":
            tokens.append(_Token(kind, match[0], position))
        position = match.end()
    tokens.append(_Token("end", "", position))
    return tokens


class _Parser:
    def __init__(self, text: str) -> None:
        self.tokens = _tokenize(text)
        self.at = 0
        self.nesting = 0

    def parse(self) -> Node:
        node = self.expression(0)
        token = self.tokens[self.at]
        if token.kind != "end":
            raise FhirPathError("A FHIRPath expression goes on after its end.", token.position)
        return node

    # -- tokens

    def is_op(self, text: str) -> bool:
        token = self.tokens[self.at]
        return token.kind == "op" and token.text == text

    def expect(self, text: str) -> None:
        token = self.tokens[self.at]
        if token.kind != "op" or token.text != text:
            raise FhirPathError(f"`{text}` is expected in a FHIRPath expression.", token.position)
        self.at += 1

    def enter(self) -> None:
        self.nesting += 1
        if self.nesting > MAX_NESTING:
            raise FhirPathError("A FHIRPath expression is nested too deeply.", self.tokens[self.at].position)

    # -- grammar

    def expression(self, minimum: int) -> Node:
        self.enter()
        left = self.polarity()
        while True:
            token = self.tokens[self.at]
            precedence = _PRECEDENCE.get(token.text, 0) if token.kind in ("op", "word") else 0
            if precedence <= minimum:
                self.nesting -= 1
                return left
            self.at += 1
            if token.text == "is" or token.text == "as":
                type_op: OneOf["is", "as"] = "is" if token.text == "is" else "as"
                left = TypeOp(type_op, left, self.type_specifier(), position=token.position)
            else:
                left = Binary(token.text, left, self.expression(precedence), position=token.position)

    def polarity(self) -> Node:
        token = self.tokens[self.at]
        if token.kind == "op" and token.text in ("+", "-"):
            self.enter()
            self.at += 1
            sign: OneOf["+", "-"] = "+" if token.text == "+" else "-"
            node = Unary(sign, self.polarity(), position=token.position)
            self.nesting -= 1
            return node
        return self.path()

    def path(self) -> Node:
        node = self.term()
        while True:
            if self.is_op("."):
                self.at += 1
                node = self.invocation(node, after_dot=True)
            elif self.is_op("["):
                position = self.tokens[self.at].position
                self.at += 1
                index = self.expression(0)
                self.expect("]")
                node = Index(node, index, position=position)
            else:
                return node

    def term(self) -> Node:
        token = self.tokens[self.at]
        kind, text, position = token
        if kind == "op" and text == "(":
            self.at += 1
            node = self.expression(0)
            self.expect(")")
            return node
        if kind == "op" and text == "{":
            self.at += 1
            self.expect("}")
            return Literal(None, position=position)
        if kind == "string":
            self.at += 1
            return Literal(_unescape(text[1:-1]), position=position)
        if kind == "number":
            self.at += 1
            return self.number(text, position)
        if kind in ("datetime", "time"):
            self.at += 1
            literal = text[1:]
            value = parse_temporal(literal, "Time" if kind == "time" else "DateTime" if "T" in literal else "Date")
            if value is None:
                raise FhirPathError("A date or time in a FHIRPath expression does not exist.", position)
            return Literal(value, position=position)
        if kind == "external":
            self.at += 1
            name = text[1:]
            return External(_unescape(name[1:-1]) if name[0] in "`'\"" else name, position=position)
        if kind == "word" and text in ("true", "false"):
            self.at += 1
            return Literal(text == "true", position=position)
        return self.invocation(Focus(position=position), after_dot=False)

    def number(self, text: str, position: int) -> Node:
        if len(text) > 100:
            raise FhirPathError("A number in a FHIRPath expression is too long.", position)
        token = self.tokens[self.at]
        if token.kind == "string":
            self.at += 1
            return Literal(Quantity(Decimal(text), _unescape(token.text[1:-1])), position=position)
        if token.kind == "word" and token.text in CALENDAR_UNITS:
            self.at += 1
            return Literal(Quantity(Decimal(text), CALENDAR_UNITS[token.text]), position=position)
        return Literal(Decimal(text) if "." in text else int(text), position=position)

    def invocation(self, source: Node, after_dot: bool) -> Node:
        kind, text, position = self.tokens[self.at]
        self.at += 1
        if kind == "special":
            if after_dot and text != "$this":
                raise FhirPathError(f"`{text}` cannot follow a dot.", position)
            if text == "$this":
                return source if after_dot else This(position=position)
            return IndexVar(position=position) if text == "$index" else Total(position=position)
        if kind == "word":
            if not after_dot and text in ("and", "or", "xor", "implies", "div", "mod"):
                raise FhirPathError(f"An operand is expected before `{text}`.", position)
            name = text
        elif kind == "quoted":
            name = _unescape(text[1:-1])
        else:
            raise FhirPathError("A name, a function or a literal is expected in a FHIRPath expression.", position)
        if not self.is_op("(") or kind == "quoted":
            return Member(source, name, position=position)
        self.at += 1
        args: list[Node] = []
        if not self.is_op(")"):
            while True:
                args.append(self.type_specifier() if name in _TYPE_FUNCTIONS else self.expression(0))
                if not self.is_op(","):
                    break
                self.at += 1
        self.expect(")")
        return Call(source, name, tuple(args), position=position)

    def type_specifier(self) -> TypeSpecifier:
        position = self.tokens[self.at].position
        parenthesized = self.is_op("(")
        self.at += parenthesized
        names = [self.type_name()]
        while self.is_op("."):
            following = self.tokens[self.at + 1]
            after = self.tokens[self.at + 2] if self.at + 2 < len(self.tokens) else following
            # A name that is followed by a parenthesis is a function, not a part of the type's name.
            if following.kind not in ("word", "quoted") or (after.kind == "op" and after.text == "("):
                break
            self.at += 1
            names.append(self.type_name())
        if parenthesized:
            self.expect(")")
        if len(names) == 1:
            return TypeSpecifier(None, names[0], position=position)
        if names[0] in ("FHIR", "System"):
            return TypeSpecifier(names[0], ".".join(names[1:]), position=position)
        return TypeSpecifier(None, ".".join(names), position=position)

    def type_name(self) -> str:
        kind, text, position = self.tokens[self.at]
        if kind not in ("word", "quoted"):
            raise FhirPathError("The name of a type is expected in a FHIRPath expression.", position)
        self.at += 1
        return text if kind == "word" else _unescape(text[1:-1])


def _check_depth(root: Node) -> None:
    stack = [(root, 1)]
    while stack:
        node, depth = stack.pop()
        if depth > MAX_DEPTH:
            raise FhirPathError("A FHIRPath expression is nested too deeply.")
        # Chains of `|`, `and` and `or` are flattened by the compiler, however long they are.
        for child in children(node):
            same = isinstance(node, Binary) and isinstance(child, Binary) and node.op == child.op in ("|", "and", "or")
            stack.append((child, depth if same else depth + 1))


@lru_cache(maxsize=4096)
def parse(text: str) -> Node:
    """The syntax tree of an expression.

    Spec:   FHIRPath N1, http://hl7.org/fhirpath/N1/#grammar
    Raises: FhirPathError with the position of the fault; also for text above 64 K characters or nested too deeply.
    """
    if len(text) > MAX_LENGTH:
        raise FhirPathError("A FHIRPath expression is too long.")
    node = _Parser(text).parse()
    _check_depth(node)
    return node
