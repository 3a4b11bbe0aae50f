"""search of a type, the system and a compartment; by GET and POST. R4 http.html#search, search.html."""

from __future__ import annotations

import dataclasses
from typing import Any

from fhir_server.context import FhirRequest, FhirResponse
from fhir_server.errors import Issue
from fhir_server.interactions.pages import link, next_url, open_position, seal_position
from fhir_server.interactions.searchset import cutter, searchset
from fhir_server.repository import Repository
from fhir_server.resources import jsonformat
from fhir_server.resources.types import COMPARTMENTS
from fhir_server.sealing import hidden
from fhir_server.search.parse import parse_query
from fhir_server.search.resolve import Resolved
from fhir_server.storage.protocol import SearchPage
from fhir_server.wire import query_string


def search_type(repository: Repository, request: FhirRequest) -> FhirResponse:
    """The resources of one type that match."""
    assert request.type is not None
    return _search(repository, request, (request.type,), request.type)


def search_system(repository: Repository, request: FhirRequest) -> FhirResponse:
    """The resources of any type, or of those that `_type` names, that match."""
    return _search(repository, request, None, "")


def search_compartment(repository: Repository, request: FhirRequest) -> FhirResponse:
    """The resources in a compartment that match; ``*`` is every type in it."""
    assert request.compartment is not None
    assert request.compartment[0] in COMPARTMENTS
    where = f"{request.compartment[0]}/{request.compartment[1]}/{request.type or '*'}"
    return _search(repository, request, (request.type,) if request.type else None, where)


def _search(repository: Repository, request: FhirRequest, types: tuple[str, ...] | None, where: str) -> FhirResponse:
    server = repository.server
    pairs = parse_query(request.query) if request.query else []
    if request.form:
        pairs += parse_query(request.form)
    after: Any = None
    total: int | None = None
    # A value may hold the same letters; only the name counts.
    token = dict(pairs).get("_cursor") if "_cursor=" in request.query else None
    if token is not None:
        # Parameters beside the token (`_format`, say) are for this page only; the search itself is in the token.
        position = open_position(server, where, token)
        pairs = [(name, value) for name, value in position["p"]]
        after = tuple(position["a"])
        if position.get("o") == repository.context.counted_for:
            total = position.get("t")
    resolved = repository.resolve(pairs, types=types, compartment=request.compartment)
    search, shape = resolved.search, resolved.shape
    if shape.explain:
        return _explained(repository, resolved)
    if after is not None:
        # The total was counted for the first page; counting again would only make pages slower.
        search = dataclasses.replace(search, after=after, total=search.total and total is None)
    page = repository.search(search)
    if page.total is None and total is not None:
        page.total = total
    base = server.settings.base_url
    path = f"{base}/{where}" if where else base
    plain = f"{path}?{query_string(resolved.applied)}" if resolved.applied else path
    links = [link("self", plain)]
    if page.next is not None and search.count:
        position = {"p": pairs, "a": list(page.next)}
        counted_for = repository.context.counted_for
        if page.total is not None and counted_for is not None:
            position["t"], position["o"] = page.total, counted_for
        links.append(link("next", next_url(path, seal_position(server, where, position), pairs)))
    if after is not None:
        links.append(link("first", plain))
    issues: list[Issue] = list(resolved.issues)
    if page.include_truncated:
        message = "More resources would be included than one page holds; ask for the rest by searches of their own."
        issues.append(Issue("warning", "incomplete", message))
    return FhirResponse(
        200,
        json=searchset(
            page if search.count else SearchPage(total=page.total),
            id=server.new_id(),
            now=server.clock(),
            base=base,
            links=links,
            cut=cutter(shape.summary, shape.elements or ()),
            issues=issues,
        ),
    )


def _explained(repository: Repository, resolved: Resolved) -> FhirResponse:
    """`_explain=true`: the tree that a search became, and the store's own plan for it."""
    narrowed, plan = repository.explain(resolved.search)
    parameters: list[dict[str, Any]] = [{"name": "search", "valueString": hidden(_tree(narrowed))}]
    for step in plan:
        text = jsonformat.encode(_plain(step), pretty=True).decode()
        parameters.append({"name": "plan", "valueString": hidden(text)})
    for issue in resolved.issues:
        parameters.append({"name": "issue", "valueString": issue.diagnostics})
    return FhirResponse(200, resource={"resourceType": "Parameters", "parameter": parameters})


def _plain(value: Any) -> Any:
    """A store's explanation as JSON."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if value is None or isinstance(value, (str, int, bool)):
        return value
    return str(value)


def _tree(value: Any, depth: int = 0) -> str:
    """A search tree, one node per line; control characters, which separate the parts of keys, as ``␟``."""
    indent = "  " * depth
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        simple, nested = [], []
        for part in dataclasses.fields(value):
            inner = getattr(value, part.name)
            if dataclasses.is_dataclass(inner) or (
                isinstance(inner, tuple) and any(map(dataclasses.is_dataclass, inner))
            ):
                nested.append((part.name, inner))
            else:
                simple.append(f"{part.name}={_shown(inner)}")
        lines = [f"{indent}{type(value).__name__}({', '.join(simple)})"]
        for name, inner in nested:
            for one in inner if isinstance(inner, tuple) else (inner,):
                lines.append(f"{indent}  {name}:")
                lines.append(_tree(one, depth + 2))
        return "\n".join(lines)
    return indent + _shown(value)


def _shown(value: Any) -> str:
    text = repr(value) if not isinstance(value, str) else value
    for number, sign in ((0x1D, "␝"), (0x1E, "␞"), (0x1F, "␟")):
        text = text.replace(chr(number), sign).replace(f"\\x{number:02x}", sign)
    return text
