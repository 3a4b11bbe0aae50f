"""Syntax tree to closures. FHIRPath N1; R4 fhirpath.html.

Types are inferred from R4's definitions, so that ``code.coding.system`` on an Observation becomes three dictionary
look-ups without any look at types. Only where R4 leaves the type open (choices, contained resources, children(),
resolve()) elements are wrapped as Items and looked at at run time. No text of an expression is ever given to Python's
compiler.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, assert_never

from fhir_server.fhirpath import ast, navigation
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
)
from fhir_server.fhirpath.code import (
    EMPTY,
    SYSTEM,
    Code,
    from_constant,
    from_scalar,
    from_truth,
    many_error,
    nothing,
)
from fhir_server.fhirpath.errors import FhirPathError
from fhir_server.fhirpath.model import (
    SYSTEM_TYPES,
    Element,
    canonical_type,
    element,
    is_abstract,
    is_known,
    is_primitive,
    is_subtype,
)
from fhir_server.fhirpath.operators import (
    arithmetic,
    comparison,
    concatenation,
    equality,
    equivalence,
    membership,
    negate,
)
from fhir_server.fhirpath.values import Environment, Item, converter, system_type, to_item, unique

_EXTERNAL_CONSTANTS = {
    "ucum": "http://unitsofmeasure.org",
    "sct": "http://snomed.info/sct",
    "loinc": "http://loinc.org",
}
_CALLS_WITH_LAMBDA = frozenset({"where", "select", "all", "exists", "repeat", "iif", "aggregate", "trace"})
_NOT_CONSTANT = frozenset({"now", "today", "timeOfDay", "resolve", "memberOf", "conformsTo", "subsumes", "subsumedBy"})


@dataclass(frozen=True, slots=True)
class Scope:
    """What `this` is where a node is compiled. `empty`: there is no `this` (iif() on an empty collection)."""

    type: str | None
    empty: bool = False


#: A type test as the compiler uses it: on a compile-time type (None: not decided), and on an Item.
@dataclass(frozen=True, slots=True)
class TypeTest:
    fhir: str | None
    system: str | None

    def of_type(self, type_name: str) -> bool:
        """Whether a FHIR type or "System.X" passes."""
        if type_name[:7] == "System.":
            return self.system is not None and (type_name == self.system or self.system == "System.Any")
        return self.fhir is not None and is_subtype(type_name, self.fhir)


def type_test(specifier: TypeSpecifier) -> TypeTest:
    """The test of ``is``, ``as`` and ofType(). Raises FhirPathError for a type that neither FHIR nor System has.

    ``Boolean`` without a namespace passes both System.Boolean and FHIR.boolean: R4's que-7 says ``answer is Boolean``
    of a FHIR boolean. ``as(DateTime)``, as R4's search parameters write it, is FHIR.dateTime.
    """
    name = specifier.name
    system = f"System.{name}" if name in SYSTEM_TYPES or name == "Any" else None
    if specifier.namespace == "System":
        if system is None:
            raise FhirPathError("The type after `System.` does not exist.", specifier.position)
        return TypeTest(None, system)
    fhir = canonical_type(name)
    if specifier.namespace == "FHIR":
        system = None
    if fhir is None and system is None:
        raise FhirPathError("A type in the expression is not one of R4 or System.", specifier.position)
    return TypeTest(fhir, system)


class Compiler:
    """Compiles the nodes of one expression; `resource_type` is the type of %resource where it is certain."""

    def __init__(self, resource_type: str | None = None) -> None:
        self.resource_type = resource_type
        self.uses_context = False
        self.unknown: list[str] = []
        self._hoisting = False

    # -- nodes

    def compile(self, node: Node, scope: Scope) -> Code:
        """The Code of `node`, evaluated once per Environment where it depends on the resource alone."""
        if not self._hoisting and not isinstance(node, (External, Literal)) and _depends_on_resource_alone(node):
            self._hoisting = True
            code = self._compile(node, scope)
            self._hoisting = False
            return _memoized(code)
        return self._compile(node, scope)

    def _compile(self, node: Node, scope: Scope) -> Code:
        match node:
            case Focus() | This():
                return self.this(scope)
            case Member():
                return self.member(node, scope)
            case Call():
                return self.call(node, scope)
            case Binary():
                return self.binary(node, scope)
            case Literal(value=value):
                return from_constant([] if value is None else [value])
            case External():
                return self.external(node)
            case Index():
                return self.index(node, scope)
            case TypeOp(op=op, operand=operand, type=type_):
                return self.is_type(operand, type_, scope) if op == "is" else self.as_type(operand, type_, scope)
            case Unary(op=op, operand=operand):
                code = self.compile(operand, scope)
                return code if op == "+" else negate(code)
            case IndexVar():
                return from_scalar(lambda env, this: env.index)
            case Total():
                return Code(lambda env, this: env.total, None)
            case TypeSpecifier(position=position):
                raise FhirPathError("A type is not expected here.", position)
            case _:
                assert_never(node)

    def this(self, scope: Scope) -> Code:
        """$this and the implicit input."""
        if scope.empty:
            return nothing()
        # Complex elements of a known type are plain dicts, so their members can be looked up without a loop.
        direct = scope.type is not None and scope.type != SYSTEM and not is_primitive(scope.type)
        return Code(lambda env, this: [this], scope.type, single=True, exists=lambda env, this: True, is_this=direct)

    def member(self, node: Member, scope: Scope) -> Code:
        name = node.name
        if isinstance(node.source, Focus):
            if name[:1].isupper() and is_known(name):
                return self.type_name(name, scope)
            source = self.this(scope)
        else:
            source = self.compile(node.source, scope)
        return self.member_of(source, name)

    def type_name(self, name: str, scope: Scope) -> Code:
        """``Patient`` at the start of a path: the focus, if it is one, so ``A.x | B.y`` on an A is ``A.x``."""
        if scope.empty:
            return nothing()
        if scope.type is None:
            return Code(
                lambda env, this: [this] if is_subtype(this.type, name) else EMPTY,
                None,
                single=True,
            )
        return self.this(scope) if scope.type != SYSTEM and is_subtype(scope.type, name) else nothing()

    def member_of(self, source: Code, name: str) -> Code:
        """`source.name`."""
        if source.constant is EMPTY:
            return source
        type_name = source.type
        if type_name is None:
            return navigation.member_of_items(source, name)
        if type_name == SYSTEM:
            boxed = Code(source.boxed, None)
            return navigation.member_of_items(boxed, name)
        if is_primitive(type_name):
            found = navigation.member_of_primitive(source, name)
        else:
            known = element(type_name, name)
            found = None if known is None else navigation.member(source, known)
        if found is None:
            self.unknown.append(f"{type_name}.{name}")
            return nothing()
        return found

    def external(self, node: External) -> Code:
        name = node.name
        if name in _EXTERNAL_CONSTANTS:
            return from_constant([_EXTERNAL_CONSTANTS[name]])
        if name.startswith("vs-"):
            return from_constant([f"http://hl7.org/fhir/ValueSet/{name[3:]}"])
        if name.startswith("ext-"):
            return from_constant([f"http://hl7.org/fhir/StructureDefinition/{name[4:]}"])
        if name == "resource" and self.resource_type is not None:
            return Code(
                lambda env, this: EMPTY if env.resource is None else [env.resource],
                self.resource_type,
                single=True,
            )
        if name == "resource":
            return Code(lambda env, this: _resource_item(env, env.resource, "resource"), None, single=True)
        if name == "rootResource":
            return Code(lambda env, this: _resource_item(env, env.root, "root"), None, single=True)
        if name == "context":
            self.uses_context = True
            return Code(lambda env, this: [env.context], None, single=True)

        def run(env: Environment, this: Any) -> list[Any]:
            if env.variables is None or name not in env.variables:
                raise FhirPathError("An external constant (%name) is not defined.", node.position)
            value = env.variables[name]
            if value is None:
                return EMPTY
            return [to_item(each) for each in value] if isinstance(value, (list, tuple)) else [to_item(value)]

        return Code(run, None)

    def index(self, node: Index, scope: Scope) -> Code:
        source = self.compile(node.source, scope)
        before, at = source.run, self.compile(node.index, scope).scalar

        def run(env: Environment, this: Any) -> list[Any]:
            position = at(env, this)
            if position is None:
                return EMPTY
            if position.__class__ is not int:
                raise FhirPathError("An index is not an integer.", node.position)
            found = before(env, this)
            return [found[position]] if 0 <= position < len(found) else EMPTY

        return Code(run, source.type, single=True)

    # -- operators

    def binary(self, node: Binary, scope: Scope) -> Code:
        op = node.op
        if op in ("and", "or"):
            return _junction(op, [self.compile(each, scope).truth for each in _operands(node)])
        if op == "|":
            return self.union([self.compile(each, scope) for each in ast.unions(node)])
        left, right = self.compile(node.left, scope), self.compile(node.right, scope)
        match op:
            case "=" | "!=":
                return equality(left, right, op == "!=")
            case "~" | "!~":
                return equivalence(left, right, op == "!~")
            case "<" | "<=" | ">" | ">=":
                return comparison(left, right, op)
            case "in":
                return membership(left, right)
            case "contains":
                return membership(right, left)
            case "xor":
                return _xor(left, right)
            case "implies":
                return _implies(left, right)
            case "&":
                return concatenation(left, right)
            case _:
                return arithmetic(op, left, right, node.position)

    def union(self, codes: list[Code]) -> Code:
        """``|``: the distinct elements of all operands."""
        constants = [code.constant for code in codes]
        if all(constant is not None for constant in constants):
            values = [value for constant in constants for value in constant or ()]
            return from_constant(unique(values, converter(SYSTEM)))
        live = [code for code in codes if code.constant is not EMPTY]
        if len(live) == 1 and live[0].single:
            return live[0]
        type_name, runs = merge(live)
        convert = converter(type_name)

        def run(env: Environment, this: Any) -> list[Any]:
            found: list[Any] = []
            for each in runs:
                found += each(env, this)
            if len(found) < 2:
                return found
            env.spend(len(found))
            return unique(found, convert)

        def exists(env: Environment, this: Any) -> bool:
            return any(each(env, this) for each in tests)

        tests = [code.exists for code in live]
        return Code(run, type_name, exists=exists)

    # -- types

    def is_type(self, operand: Node, specifier: TypeSpecifier, scope: Scope) -> Code:
        test = type_test(specifier)
        if isinstance(operand, Call) and operand.name == "resolve" and not operand.args:
            from fhir_server.fhirpath.functions import resolves_to

            return resolves_to(self.compile(operand.source, scope), test)
        code = self.compile(operand, scope)
        run, type_name = code.run, code.type

        def truth(env: Environment, this: Any) -> bool | None:
            found = run(env, this)
            if not found:
                return None
            if len(found) > 1:
                raise many_error("The operand of `is`")
            value = found[0]
            return test.of_type(
                value.type if type_name is None else system_type(value) if type_name == SYSTEM else type_name
            )

        return from_truth(truth)

    def as_type(self, operand: Node, specifier: TypeSpecifier, scope: Scope) -> Code:
        """``as`` and ofType(): the elements of the type.

        N1 wants at most one element before ``as``; R4's own expressions (dom-3) use it on many, as ofType().
        """
        test = type_test(specifier)
        if isinstance(operand, Member):
            direct = self.choice_of(operand, test, scope)
            if direct is not None:
                return direct
        return filter_type(self.compile(operand, scope), test)

    def choice_of(self, node: Member, test: TypeTest, scope: Scope) -> Code | None:
        """``value as Quantity`` on a known type is the member valueQuantity; None when it is not that simple."""
        if isinstance(node.source, Focus) and node.name[:1].isupper():
            return None
        source = self.this(scope) if isinstance(node.source, Focus) else self.compile(node.source, scope)
        if source.type is None or source.type == SYSTEM or is_primitive(source.type):
            return None
        known = element(source.type, node.name)
        if known is None or not known.choice:
            return None
        fitting = {key: type_name for key, type_name in known.keys.items() if test.of_type(type_name)}
        if not fitting:
            return nothing()
        if len(fitting) > 1:
            return None
        return navigation.member(source, Element(node.name, fitting, False, known.many))

    # -- functions

    def call(self, node: Call, scope: Scope) -> Code:
        from fhir_server.fhirpath.functions import compile_call

        return compile_call(self, node, scope)


# --- parts of the above -----------------------------------------------------------------------------------------------


def filter_type(code: Code, test: TypeTest) -> Code:
    """The elements of `code` that pass a type test."""
    run, type_name = code.run, code.type
    if type_name is None:
        return Code(
            lambda env, this: [item for item in run(env, this) if test.of_type(item.type)], None, single=code.single
        )
    if type_name == SYSTEM:
        return Code(
            lambda env, this: [value for value in run(env, this) if test.of_type(system_type(value))],
            SYSTEM,
            single=code.single,
        )
    return code if test.of_type(type_name) else nothing()


def merge(codes: list[Code]) -> tuple[str | None, list[Callable[[Environment, Any], list[Any]]]]:
    """One element type for several collections: their own when it is the same, else Items."""
    types = {code.type for code in codes}
    if len(types) == 1:
        return types.pop(), [code.run for code in codes]
    return None, [code.boxed for code in codes]


def indexed(env: Environment, found: list[Any]) -> Iterator[Any]:
    """The elements, with $index set; the index of an outer loop is restored afterwards."""
    outer = env.index
    try:
        for position, value in enumerate(found):
            env.index = position
            yield value
    finally:
        env.index = outer


def _resource_item(env: Environment, resource: dict[str, Any] | None, name: str) -> list[Any]:
    if resource is None:
        return EMPTY
    found = env.memo.get(name)
    if found is None:
        found = env.memo[name] = [Item(resource, navigation.resource_type_of(resource))]
    return found


def _memoized(code: Code) -> Code:
    run = code.run
    key = object()

    def memoized(env: Environment, this: Any) -> list[Any]:
        memo = env.memo
        found = memo.get(key)
        if found is None:
            found = memo[key] = run(env, None)
        return found

    if code.single:
        scalar_key = object()
        inner = code.scalar

        def scalar(env: Environment, this: Any) -> Any:
            memo = env.memo
            if scalar_key in memo:
                return memo[scalar_key]
            value = memo[scalar_key] = inner(env, None)
            return value

        return Code(memoized, code.type, single=True, scalar=scalar)
    return Code(memoized, code.type)


def _depends_on_resource_alone(node: Node) -> bool:
    """Whether a node reads %resource or %rootResource and nothing that changes during the life of an Environment."""
    reads_resource = False
    stack: list[tuple[Node, bool]] = [(node, False)]
    while stack:
        current, bound = stack.pop()
        match current:
            case Focus() | This() | IndexVar():
                if not bound:
                    return False
            case Total():
                return False
            case External(name=name):
                if name in ("resource", "rootResource"):
                    reads_resource = True
                elif name not in _EXTERNAL_CONSTANTS and not name.startswith(("vs-", "ext-")):
                    return False
            case Call(source=source, name=name, args=args):
                if name in _NOT_CONSTANT:
                    return False
                stack.append((source, bound))
                stack += [(each, bound or name in _CALLS_WITH_LAMBDA) for each in args]
            case _:
                stack += [(child, bound) for child in ast.children(current)]
    return reads_resource


def _operands(node: Binary) -> list[Node]:
    """``a or b or c`` as a flat list."""
    found: list[Node] = []
    stack: list[Node] = [node]
    while stack:
        current = stack.pop()
        if isinstance(current, Binary) and current.op == node.op:
            stack += (current.right, current.left)
        else:
            found.append(current)
    return found


def _junction(op: str, truths: list[Callable[[Environment, Any], bool | None]]) -> Code:
    """``and`` and ``or`` in three-valued logic (N1, 6.5). The value that decides ends the evaluation."""
    decisive = op == "or"
    if len(truths) == 2:
        first, second = truths

        def two(env: Environment, this: Any) -> bool | None:
            left = first(env, this)
            if left is decisive:
                return decisive
            right = second(env, this)
            if right is decisive:
                return decisive
            return None if left is None or right is None else not decisive

        return from_truth(two)

    def many(env: Environment, this: Any) -> bool | None:
        result: bool | None = not decisive
        for each in truths:
            value = each(env, this)
            if value is decisive:
                return decisive
            if value is None:
                result = None
        return result

    return from_truth(many)


def _xor(left: Code, right: Code) -> Code:
    first, second = left.truth, right.truth

    def truth(env: Environment, this: Any) -> bool | None:
        a, b = first(env, this), second(env, this)
        return None if a is None or b is None else a is not b

    return from_truth(truth)


def _implies(left: Code, right: Code) -> Code:
    first, second = left.truth, right.truth

    def truth(env: Environment, this: Any) -> bool | None:
        a = first(env, this)
        if a is False:
            return True
        b = second(env, this)
        return b if a is True or b is True else None

    return from_truth(truth)


def starts_dynamic(type_name: str) -> bool:
    """Whether elements of this type say themselves what they are, so that nothing can be known at compile time."""
    return is_abstract(type_name) or not is_known(type_name)
