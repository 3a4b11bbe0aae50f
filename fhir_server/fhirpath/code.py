"""Compiled pieces of an expression: what a closure returns and in which forms it can be asked.

Every form is a closure ``(environment, this) -> ...``. `this` is one element: a JSON value where its type is known at
compile time, otherwise an Item.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from fhir_server.fhirpath.errors import FhirPathError
from fhir_server.fhirpath.values import Environment, Item, converter, system_type

Run: TypeAlias = Callable[[Environment, Any], list[Any]]
Scalar: TypeAlias = Callable[[Environment, Any], Any]
Truth: TypeAlias = Callable[[Environment, Any], "bool | None"]

#: Shared by everything that returns nothing, one true or one false; nobody changes a collection after it is made.
EMPTY: list[Any] = []
TRUE: list[Any] = [True]
FALSE: list[Any] = [False]

SYSTEM = "System"  # the compile-time type of system values; which of them it is, the Python class says


def many_error(what: str) -> FhirPathError:
    """A collection of several elements where FHIRPath wants at most one (N1, 4.5)."""
    return FhirPathError(f"{what} has several elements where at most one is allowed.")


class Code:
    """One compiled node.

    run     the collection
    type    compile-time type of its elements: a FHIR type, `SYSTEM`, or None when they are Items
    single  certainly at most one element
    scalar  the system value of the single element, None when empty; raises for several elements
    truth   True, False or None (empty), by singleton evaluation
    exists  whether there is any element
    """

    __slots__ = ("_exists", "_scalar", "_truth", "constant", "is_this", "key", "run", "single", "type")

    def __init__(
        self,
        run: Run,
        type: str | None,
        *,
        single: bool = False,
        scalar: Scalar | None = None,
        truth: Truth | None = None,
        exists: Truth | None = None,
        is_this: bool = False,
        key: str | None = None,
        constant: list[Any] | None = None,
    ) -> None:
        self.run = run
        self.type = type
        self.single = single
        self.is_this = is_this
        self.key = key  # the JSON member of `this` that holds the single primitive, whose value needs no conversion
        self.constant = constant
        self._scalar = scalar
        self._truth = truth
        self._exists = exists

    @property
    def scalar(self) -> Scalar:
        if self._scalar is None:
            self._scalar = self._make_scalar()
        return self._scalar

    @property
    def truth(self) -> Truth:
        if self._truth is None:
            self._truth = self._make_truth()
        return self._truth

    @property
    def exists(self) -> Truth:
        if self._exists is None:
            run = self.run
            self._exists = lambda env, this: bool(run(env, this))
        return self._exists

    def _make_scalar(self) -> Scalar:
        run = self.run
        convert = converter(self.type)

        def scalar(env: Environment, this: Any) -> Any:
            found = run(env, this)
            if not found:
                return None
            if len(found) > 1:
                raise many_error("An operand")
            return convert(found[0])

        return scalar

    def _make_truth(self) -> Truth:
        run = self.run

        def truth(env: Environment, this: Any) -> bool | None:
            found = run(env, this)
            if not found:
                return None
            if len(found) > 1:
                raise many_error("A condition")
            value = found[0]
            if value is True or value is False:
                return value
            if value.__class__ is Item:
                inner = value.value
                if inner is True or inner is False:
                    return inner
                if inner is None and value.type == "boolean":
                    return None
            return True

        return truth

    @property
    def boxed(self) -> Run:
        """The collection as Items."""
        run, type_ = self.run, self.type
        if type_ is None:
            return run
        if type_ == SYSTEM:
            return lambda env, this: [Item(value, system_type(value)) for value in run(env, this)]
        return lambda env, this: [value if value.__class__ is Item else Item(value, type_) for value in run(env, this)]


def from_truth(truth: Truth) -> Code:
    """The Code of a function or operator that yields true, false or nothing."""

    def run(env: Environment, this: Any) -> list[Any]:
        value = truth(env, this)
        return EMPTY if value is None else TRUE if value else FALSE

    return Code(run, SYSTEM, single=True, scalar=truth, truth=truth)


def from_scalar(scalar: Scalar) -> Code:
    """The Code of a function or operator that yields at most one system value."""

    def run(env: Environment, this: Any) -> list[Any]:
        value = scalar(env, this)
        return EMPTY if value is None else [value]

    return Code(run, SYSTEM, single=True, scalar=scalar)


def from_constant(values: list[Any]) -> Code:
    """The Code of literals."""
    if len(values) > 1:
        return Code(lambda env, this: values, SYSTEM, constant=values)
    if not values:
        return Code(
            lambda env, this: EMPTY,
            SYSTEM,
            single=True,
            scalar=lambda env, this: None,
            truth=lambda env, this: None,
            exists=lambda env, this: False,
            constant=EMPTY,
        )
    value = values[0]
    truth = value if isinstance(value, bool) else True
    return Code(
        lambda env, this: values,
        SYSTEM,
        single=True,
        scalar=lambda env, this: value,
        truth=lambda env, this: truth,
        exists=lambda env, this: True,
        constant=values,
    )


def nothing() -> Code:
    """The Code of an element that the type does not have."""
    return from_constant([])
