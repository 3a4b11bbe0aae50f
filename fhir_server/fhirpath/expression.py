"""Compiled expressions: what the rest of the server evaluates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

from fhir_server.fhirpath.ast import Node
from fhir_server.fhirpath.code import Code
from fhir_server.fhirpath.compiler import Compiler, Scope, starts_dynamic
from fhir_server.fhirpath.errors import FhirPathError
from fhir_server.fhirpath.navigation import resource_type_of
from fhir_server.fhirpath.parser import parse
from fhir_server.fhirpath.values import Environment, Item, system_type, to_item

# What structurally invalid content makes the closures stumble over; invariants are meant for content that passed the
# structure check.
_MALFORMED = (AttributeError, TypeError, KeyError, IndexError)


class Compiled:
    """An expression, compiled for one type of focus, or for every type at its first use.

    text, node        the expression and its tree
    context_type      the type of the focus; None: found at run time
    unknown_elements  "Type.name" of elements that the expression names and R4 does not have (they yield nothing)
    check             the bare closure ``(environment, focus) -> bool | None`` of an expression with a context type; it
                      needs structurally valid content and does not convert errors. A primitive focus with a ``_``
                      sibling is an Item.
    """

    __slots__ = (
        "_by_type",
        "_code",
        "_dynamic",
        "check",
        "context_type",
        "node",
        "resource_type",
        "text",
        "unknown_elements",
    )

    def __init__(self, text: str, node: Node, context_type: str | None, resource_type: str | None) -> None:
        self.text = text
        self.node = node
        self.context_type = None if context_type is not None and starts_dynamic(context_type) else context_type
        self.resource_type = resource_type
        self.unknown_elements: tuple[str, ...] = ()
        self._by_type: dict[str, Compiled] = {}
        self._dynamic: tuple[Code, bool] | None = None
        self.check: Callable[[Environment, Any], bool | None]
        if self.context_type is None:
            # Compiled all the same: syntax and unknown functions are reported now, not at the first resource.
            self._code = self._compile_dynamic()[0]
            self.check = self._check_dynamic
        else:
            compiler = Compiler(resource_type)
            code = compiler.compile(node, Scope(self.context_type))
            self._code = code
            self.unknown_elements = tuple(dict.fromkeys(compiler.unknown))
            truth = code.truth
            type_ = self.context_type
            if compiler.uses_context:

                def with_context(env: Environment, focus: Any) -> bool | None:
                    env.context = focus if focus.__class__ is Item else Item(focus, type_)
                    return truth(env, focus)

                self.check = with_context
            else:
                self.check = truth

    def __repr__(self) -> str:
        return f"Compiled({self.text!r}, {self.context_type!r})"

    def truth(
        self,
        focus: Any,
        env: Environment | None = None,
        *,
        element: dict[str, Any] | None = None,
        context_type: str | None = None,
    ) -> bool | None:
        """The expression as a condition: True, False, or None for the empty collection.

        A single element that is no boolean is True (N1, 4.5). `element` is the ``_`` sibling of a primitive focus.
        Raises FhirPathError, also for content whose structure is not valid.
        """
        compiled = self._specialized(focus, context_type)
        if env is None:
            env = _environment_for(focus)
        try:
            if compiled is None:
                return self._run_dynamic(focus, element, context_type, env).truth
            if element is not None:
                focus = Item(focus, compiled.context_type or "", element)
            return compiled.check(env, focus)
        except _MALFORMED as error:
            raise FhirPathError("The expression meets content whose structure is not valid.") from error

    def evaluate(
        self,
        focus: Any,
        *,
        resource: dict[str, Any] | None = None,
        root: dict[str, Any] | None = None,
        context_type: str | None = None,
        variables: Mapping[str, Any] | None = None,
        resolve: Callable[[str], dict[str, Any] | None] | None = None,
        now: datetime | Callable[[], datetime] | None = None,
        element: dict[str, Any] | None = None,
        env: Environment | None = None,
        locate: bool = False,
    ) -> list[Item]:
        """The collection that the expression yields on `focus`, as Items.

        `resource` and `root` default to the focus, when that is a resource. With `locate` every Item knows where it was
        found (parent, key, index), and the focus itself is the Item at the end of the parents.
        Raises FhirPathError, also for content whose structure is not valid.
        """
        if env is None:
            if resource is None and isinstance(focus, dict) and "resourceType" in focus:
                resource = focus
            env = Environment(resource, root, variables=variables, resolve=resolve, now=now)
        compiled = None if locate else self._specialized(focus, context_type)
        try:
            if compiled is None or compiled.context_type is None:
                return self._run_dynamic(focus, element, context_type, env).items
            start = focus if element is None else Item(focus, compiled.context_type, element)
            env.context = start if start.__class__ is Item else Item(start, compiled.context_type)
            return list(compiled._code.boxed(env, start))
        except _MALFORMED as error:
            raise FhirPathError("The expression meets content whose structure is not valid.") from error

    # -- inside

    def _check_dynamic(self, env: Environment, focus: Any) -> bool | None:
        compiled = self._specialized(focus, None)
        return self._run_dynamic(focus, None, None, env).truth if compiled is None else compiled.check(env, focus)

    def _specialized(self, focus: Any, context_type: str | None) -> Compiled | None:
        """Self, or the same expression compiled for the type of a focus; None when that cannot be known."""
        if self.context_type is not None:
            return self
        name = context_type
        if name is None or starts_dynamic(name):
            if focus.__class__ is Item:
                return None
            name = resource_type_of(focus) if isinstance(focus, dict) else None
            if name is None or starts_dynamic(name):
                return None
        found = self._by_type.get(name)
        if found is None:
            found = self._by_type[name] = Compiled(self.text, self.node, name, self.resource_type)
        return found

    def _compile_dynamic(self) -> tuple[Code, bool]:
        if self._dynamic is None:
            compiler = Compiler()
            code = compiler.compile(self.node, Scope(None))
            self._dynamic = code, compiler.uses_context
        return self._dynamic

    def _run_dynamic(
        self, focus: Any, element: dict[str, Any] | None, context_type: str | None, env: Environment
    ) -> _Result:
        code, _ = self._compile_dynamic()
        if focus.__class__ is Item:
            item = focus
        else:
            type_name = self.context_type or context_type
            if isinstance(focus, dict) and (type_name is None or starts_dynamic(type_name)):
                type_name = resource_type_of(focus) if "resourceType" in focus else (type_name or "Element")
            item = Item(focus, type_name or system_type(focus), element)
        env.context = item
        return _Result(code, env, item)


class _Result:
    """The two ways to ask a dynamic evaluation."""

    def __init__(self, code: Code, env: Environment, item: Item) -> None:
        self.code, self.env, self.item = code, env, item

    @property
    def truth(self) -> bool | None:
        return self.code.truth(self.env, self.item)

    @property
    def items(self) -> list[Item]:
        return [to_item(value) for value in self.code.boxed(self.env, self.item)]


def _environment_for(focus: Any) -> Environment:
    return Environment(focus if isinstance(focus, dict) and "resourceType" in focus else None)


def compile_expression(
    expression: str | Node, context_type: str | None = None, resource_type: str | None = None
) -> Compiled:
    """The compiled form of an expression: of a text, cached; of a tree, made anew.

    `context_type` is the type of the focus: "Patient", "Period", "string", "Patient.contact" (the path of a backbone
    element, with contentReferences followed). Without it, or with an abstract type, the expression is compiled for each
    type it meets. `resource_type` is the type of %resource, where the caller is certain of it; a contained resource is
    its own %resource.
    Raises FhirPathError for faults of syntax, unknown functions and types, and wrong numbers of arguments.
    """
    if isinstance(expression, str):
        return _compile_text(expression, context_type, resource_type)
    return Compiled(str(expression), expression, context_type, resource_type)


@lru_cache(maxsize=8192)
def _compile_text(text: str, context_type: str | None, resource_type: str | None) -> Compiled:
    return Compiled(text, parse(text), context_type, resource_type)
