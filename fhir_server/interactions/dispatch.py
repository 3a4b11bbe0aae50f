"""The table of interactions: routes, Bundle entries, the CapabilityStatement and tests all read it. R4
http.html#summary.

`locate` says what a path names, `choose` which interaction a method means there. An interaction that writes is split
in `plan` (what is to be written; depends on nothing stored) and `answer` (what the committed version looks like), so
that a transaction can collect plans and commit them at once; `run` is both for a single request.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from fhir_server.context import FhirRequest, FhirResponse
from fhir_server.errors import BadRequest, FhirError, MethodNotAllowed, NotFound
from fhir_server.interactions import binary, bundle, capabilities, create, delete, history, patch, read, search, update
from fhir_server.interactions.operations import breakglass, meta, reindex, validate
from fhir_server.repository import Repository, Result, Write
from fhir_server.resources.types import COMPARTMENTS, TYPE_SET, is_id

Run = Callable[[Repository, FhirRequest], FhirResponse]
Plan = Callable[[Repository, FhirRequest], Write]
Answer = Callable[[Repository, FhirRequest, Result], FhirResponse]
Level = Literal["system", "type", "instance", "version"]


@dataclass(frozen=True, slots=True)
class Interaction:
    """One interaction. `code` is that of restful-interaction where it has one.

    `body` says what the request carries: a "resource", a "form", an "optional" resource, something of its own
    ("raw") or "none".
    """

    code: str
    run: Run
    body: Literal["resource", "form", "optional", "raw", "none"] = "none"
    plan: Plan | None = None
    answer: Answer | None = None


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation: where it can be called and whether it changes anything (if it does, only by POST)."""

    name: str
    run: Run
    levels: tuple[Level, ...]
    affects_state: bool
    definition: str
    plan: Plan | None = None
    answer: Answer | None = None
    types: tuple[str, ...] | None = None
    """Resource types that know it; None for all."""


class Target(NamedTuple):
    """What a path names; `shape` is a key of ROUTES."""

    shape: str
    type: str | None = None
    id: str | None = None
    version_id: str | None = None
    operation: str | None = None
    compartment: tuple[str, str] | None = None


def _writing(
    code: str, plan: Plan, answer: Answer, body: Literal["resource", "form", "optional", "raw", "none"] = "none"
) -> Interaction:
    def run(repository: Repository, request: FhirRequest) -> FhirResponse:
        return answer(repository, request, repository.execute([plan(repository, request)])[0])

    return Interaction(code, run, body, plan, answer)


READ: Final = Interaction("read", binary.read_or_resource)
VREAD: Final = Interaction("vread", binary.vread_or_resource)
CREATE: Final = _writing("create", create.plan, create.answer, "resource")
UPDATE: Final = _writing("update", update.plan, update.answer, "resource")
CONDITIONAL_UPDATE: Final = _writing("update", update.plan_conditional, update.answer, "resource")
PATCH: Final = _writing("patch", patch.plan, update.answer, "raw")
CONDITIONAL_PATCH: Final = _writing("patch", patch.plan_conditional, update.answer, "raw")
DELETE: Final = _writing("delete", delete.plan, delete.answer)
CONDITIONAL_DELETE: Final = _writing("delete", delete.plan_conditional, delete.answer)
SEARCH_TYPE: Final = Interaction("search-type", search.search_type)
SEARCH_TYPE_POST: Final = Interaction("search-type", search.search_type, "form")
SEARCH_SYSTEM: Final = Interaction("search-system", search.search_system)
SEARCH_SYSTEM_POST: Final = Interaction("search-system", search.search_system, "form")
SEARCH_COMPARTMENT: Final = Interaction("search-compartment", search.search_compartment)
SEARCH_COMPARTMENT_POST: Final = Interaction("search-compartment", search.search_compartment, "form")
HISTORY_INSTANCE: Final = Interaction("history-instance", history.history_instance)
HISTORY_TYPE: Final = Interaction("history-type", history.history_type)
HISTORY_SYSTEM: Final = Interaction("history-system", history.history_system)
CAPABILITIES: Final = Interaction("capabilities", capabilities.capabilities)
BUNDLE: Final = Interaction("transaction", bundle.bundle, "resource")

ROUTES: Final[dict[str, dict[str, Interaction]]] = {
    "system": {"GET": SEARCH_SYSTEM, "POST": BUNDLE},
    "search-system": {"POST": SEARCH_SYSTEM_POST},
    "history-system": {"GET": HISTORY_SYSTEM},
    "metadata": {"GET": CAPABILITIES},
    "type": {
        "GET": SEARCH_TYPE,
        "POST": CREATE,
        "PUT": CONDITIONAL_UPDATE,
        "PATCH": CONDITIONAL_PATCH,
        "DELETE": CONDITIONAL_DELETE,
    },
    "search-type": {"POST": SEARCH_TYPE_POST},
    "history-type": {"GET": HISTORY_TYPE},
    "instance": {"GET": READ, "PUT": UPDATE, "PATCH": PATCH, "DELETE": DELETE},
    "version": {"GET": VREAD},
    "history-instance": {"GET": HISTORY_INSTANCE},
    "compartment": {"GET": SEARCH_COMPARTMENT},
    "compartment-search": {"POST": SEARCH_COMPARTMENT_POST},
}
"""Shape of the path -> method -> interaction. HEAD is GET without a body; OPTIONS is answered everywhere."""

_RESOURCE_OPERATION: Final = "http://hl7.org/fhir/OperationDefinition/Resource-"

OPERATIONS: Final[dict[str, Operation]] = {
    operation.name: operation
    for operation in (
        Operation("validate", validate.validate, ("type", "instance"), False, _RESOURCE_OPERATION + "validate"),
        Operation("meta", meta.meta, ("system", "type", "instance", "version"), False, _RESOURCE_OPERATION + "meta"),
        Operation(
            "meta-add",
            meta.add,
            ("instance",),
            True,
            _RESOURCE_OPERATION + "meta-add",
            plan=meta.plan_add,
            answer=meta.answer,
        ),
        Operation(
            "meta-delete",
            meta.delete,
            ("instance",),
            True,
            _RESOURCE_OPERATION + "meta-delete",
            plan=meta.plan_delete,
            answer=meta.answer,
        ),
        Operation(
            "reindex",
            reindex.reindex,
            ("system", "type", "instance"),
            True,
            "https://hestia.example/fhir/OperationDefinition/reindex",
        ),
        Operation(
            "break-the-glass",
            breakglass.break_the_glass,
            ("type", "instance"),
            True,
            breakglass.DEFINITION,
            types=("Patient",),
        ),
    )
}


def locate(segments: Sequence[str]) -> Target:
    """What the segments of a path below the base name.

    Raises NotFound for unknown types, operations and paths, BadRequest for what cannot be an id.
    """
    if not segments or segments == [""]:
        return Target("system")
    first, rest = segments[0], len(segments)
    if first not in TYPE_SET:
        if rest == 1:
            if first == "metadata":
                return Target("metadata")
            if first == "_history":
                return Target("history-system")
            if first == "_search":
                return Target("search-system")
            if first.startswith("$"):
                return Target("operation", operation=_operation(first[1:], "system"))
        raise NotFound("There is no such resource type or path.")
    if rest == 1:
        return Target("type", first)
    second = segments[1]
    if rest == 2:
        if second == "_search":
            return Target("search-type", first)
        if second == "_history":
            return Target("history-type", first)
        if second.startswith("$"):
            return Target("operation", first, operation=_operation(second[1:], "type"))
    if not is_id(second):
        raise BadRequest("An id has 1 to 64 letters, digits, dashes and dots.", code="value")
    if rest == 2:
        return Target("instance", first, second)
    third = segments[2]
    if third == "_history":
        if rest == 3:
            return Target("history-instance", first, second)
        if not is_id(segments[3]):
            raise BadRequest("A version id has 1 to 64 letters, digits, dashes and dots.", code="value")
        if rest == 4:
            return Target("version", first, second, segments[3])
        if rest == 5 and segments[4].startswith("$"):
            name = _operation(segments[4][1:], "version")
            return Target("operation", first, second, segments[3], name)
        raise NotFound("There is no such path.")
    if third.startswith("$") and rest == 3:
        return Target("operation", first, second, operation=_operation(third[1:], "instance"))
    if rest == 3 or (rest == 4 and segments[3] == "_search"):
        if first not in COMPARTMENTS:
            raise NotFound(f"There is no compartment of type {first}.")
        if third != "*" and third not in TYPE_SET:
            raise NotFound("There is no such resource type.")
        shape = "compartment" if rest == 3 else "compartment-search"
        return Target(shape, None if third == "*" else third, compartment=(first, second))
    raise NotFound("There is no such path.")


def _operation(name: str, level: Level) -> str:
    operation = OPERATIONS.get(name)
    if operation is None:
        raise NotFound("There is no such operation.", code="not-supported")
    if level not in operation.levels:
        raise NotFound(
            f"${name} cannot be called on a{'n' if level == 'instance' else ''} {level}.", code="not-supported"
        )
    return name


def methods(target: Target) -> tuple[str, ...]:
    """The methods that a path knows, HEAD included."""
    if target.shape == "operation":
        assert target.operation is not None
        return ("POST",) if OPERATIONS[target.operation].affects_state else ("GET", "HEAD", "POST")
    known = tuple(ROUTES[target.shape])
    return ("GET", "HEAD", *(name for name in known if name != "GET")) if "GET" in known else known


_OPERATION_INTERACTIONS: Final[dict[str, Interaction]] = {
    name: Interaction(f"${name}", operation.run, "optional", operation.plan, operation.answer)
    for name, operation in OPERATIONS.items()
}


def choose(method: str, target: Target) -> Interaction:
    """The interaction that `method` means at `target`. Raises MethodNotAllowed (405) with Allow."""
    if target.shape == "operation":
        assert target.operation is not None
        if method in methods(target):
            return _OPERATION_INTERACTIONS[target.operation]
    else:
        found = ROUTES[target.shape].get(method)
        if found is not None:
            return found
    raise MethodNotAllowed(
        "This path does not know that method.", headers={"Allow": ", ".join((*methods(target), "OPTIONS"))}
    )


__all__ = [
    "FhirError",
    "Interaction",
    "Operation",
    "Target",
    "OPERATIONS",
    "ROUTES",
    "choose",
    "locate",
    "methods",
    "read",
]
