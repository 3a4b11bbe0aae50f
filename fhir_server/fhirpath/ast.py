"""The syntax tree of FHIRPath: what the parser makes, the compiler and the search indexer read.

FHIRPath N1 (http://hl7.org/fhirpath/N1/), section 12 (grammar). Nodes are equal when their structure is equal;
positions do not take part. ``str(node)`` is FHIRPath text that parses to an equal tree.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal as OneOf
from typing import TypeAlias

from fhir_server.fhirpath.dates import Temporal
from fhir_server.fhirpath.quantities import Quantity

LiteralValue: TypeAlias = "bool | str | int | Decimal | Temporal | Quantity | None"


@dataclass(frozen=True, slots=True)
class Focus:
    """The implicit input of an expression: in ``name.given``, `name` is a member of the Focus."""

    position: int = field(default=0, compare=False, kw_only=True)

    def __str__(self) -> str:
        return ""


@dataclass(frozen=True, slots=True)
class This:
    """``$this``"""

    position: int = field(default=0, compare=False, kw_only=True)

    def __str__(self) -> str:
        return "$this"


@dataclass(frozen=True, slots=True)
class IndexVar:
    """``$index``"""

    position: int = field(default=0, compare=False, kw_only=True)

    def __str__(self) -> str:
        return "$index"


@dataclass(frozen=True, slots=True)
class Total:
    """``$total``, in aggregate()."""

    position: int = field(default=0, compare=False, kw_only=True)

    def __str__(self) -> str:
        return "$total"


@dataclass(frozen=True, slots=True)
class Member:
    """``source.name``; a leading type name (``Patient.name``) is a member of the Focus, too."""

    source: Node
    name: str
    position: int = field(default=0, compare=False, kw_only=True)

    def __str__(self) -> str:
        return _after(self.source, _identifier(self.name))


@dataclass(frozen=True, slots=True)
class Index:
    """``source[index]``"""

    source: Node
    index: Node
    position: int = field(default=0, compare=False, kw_only=True)

    def __str__(self) -> str:
        return f"{_operand(self.source)}[{self.index}]"


@dataclass(frozen=True, slots=True)
class TypeSpecifier:
    """``Quantity``, ``FHIR.Quantity``, ``System.String``, as written: `as(DateTime)` keeps the name "DateTime"."""

    namespace: str | None
    name: str
    position: int = field(default=0, compare=False, kw_only=True)

    def __str__(self) -> str:
        name = _identifier(self.name)
        return f"{self.namespace}.{name}" if self.namespace else name


@dataclass(frozen=True, slots=True)
class Call:
    """``source.name(args)``; the argument of ofType, is and as is a TypeSpecifier."""

    source: Node
    name: str
    args: tuple[Node, ...] = ()
    position: int = field(default=0, compare=False, kw_only=True)

    def __str__(self) -> str:
        return _after(self.source, f"{self.name}({', '.join(map(str, self.args))})")


@dataclass(frozen=True, slots=True)
class Binary:
    """``left op right`` for every operator but is and as."""

    op: str
    left: Node
    right: Node
    position: int = field(default=0, compare=False, kw_only=True)

    def __str__(self) -> str:
        # Unions and conditions may be long chains, which lean to the left; they are not followed by recursion.
        parts = [_operand(self.right)]
        left = self.left
        while isinstance(left, Binary) and left.op == self.op:
            parts.append(_operand(left.right))
            left = left.left
        parts.append(_operand(left))
        return f" {self.op} ".join(reversed(parts))


@dataclass(frozen=True, slots=True)
class Unary:
    """``+operand``, ``-operand``"""

    op: OneOf["+", "-"]
    operand: Node
    position: int = field(default=0, compare=False, kw_only=True)

    def __str__(self) -> str:
        return f"{self.op}{_operand(self.operand)}"


@dataclass(frozen=True, slots=True)
class TypeOp:
    """``operand is type``, ``operand as type``"""

    op: OneOf["is", "as"]
    operand: Node
    type: TypeSpecifier
    position: int = field(default=0, compare=False, kw_only=True)

    def __str__(self) -> str:
        return f"{_operand(self.operand)} {self.op} {self.type}"


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant; None is ``{}``, the empty collection. 1 and true are different literals, as are 1 and 1.0."""

    value: LiteralValue
    kind: str = field(init=False, default="")
    position: int = field(default=0, compare=False, kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", type(self.value).__name__)

    def __str__(self) -> str:
        value = self.value
        if value is None:
            return "{}"
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, str):
            return quote(value)
        if isinstance(value, Temporal):
            return value.literal()
        return format(value, "f") if isinstance(value, Decimal) else str(value)


@dataclass(frozen=True, slots=True)
class External:
    """``%name``; `name` has no percent sign and no quotes."""

    name: str
    position: int = field(default=0, compare=False, kw_only=True)

    def __str__(self) -> str:
        return f"%{_identifier(self.name)}"


Node: TypeAlias = (
    Focus
    | This
    | IndexVar
    | Total
    | Member
    | Index
    | Call
    | Binary
    | Unary
    | TypeOp
    | TypeSpecifier
    | Literal
    | External
)


def children(node: Node) -> tuple[Node, ...]:
    """The direct children of `node`, in the order of the text."""
    match node:
        case Member(source=source):
            return (source,)
        case Index(source=source, index=index):
            return (source, index)
        case Call(source=source, args=args):
            return (source, *args)
        case Binary(left=left, right=right):
            return (left, right)
        case Unary(operand=operand):
            return (operand,)
        case TypeOp(operand=operand, type=type_):
            return (operand, type_)
        case _:
            return ()


def walk(node: Node) -> Iterator[Node]:
    """`node` and everything below it, parents first."""
    stack = [node]
    while stack:
        current = stack.pop()
        yield current
        stack.extend(reversed(children(current)))


def unions(node: Node) -> list[Node]:
    """The operands of the outermost ``|`` operators: ``a | b | c`` gives three nodes, ``a.b`` one."""
    found: list[Node] = []
    stack = [node]
    while stack:
        current = stack.pop()
        if isinstance(current, Binary) and current.op == "|":
            stack.extend((current.right, current.left))
        else:
            found.append(current)
    return found


def quote(text: str) -> str:
    """`text` as a FHIRPath string literal."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return "'" + escaped.replace("\r", "\\r").replace("\n", "\\n").replace("\t", "\\t").replace("\f", "\\f") + "'"


_RESERVED = frozenset({"and", "or", "xor", "implies", "div", "mod", "true", "false", "is", "as", "in", "contains"})


def _identifier(name: str) -> str:
    if name.isidentifier() and name.isascii() and name not in _RESERVED:
        return name
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def _operand(node: Node) -> str:
    if isinstance(node, (Binary, Unary, TypeOp)) or (isinstance(node, Literal) and isinstance(node.value, Quantity)):
        return f"({node})"
    return str(node) or "$this"


def _after(source: Node, text: str) -> str:
    return text if isinstance(source, Focus) else f"{_operand(source)}.{text}"
