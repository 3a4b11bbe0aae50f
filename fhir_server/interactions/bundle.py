"""batch and transaction. R4 http.html#transaction, #trules, bundle.html.

The entries of a transaction become Writes, which are committed at once, in the order DELETE, POST, PUT and PATCH
whatever theirs is; GET entries then run inside the same transaction and see them (history and vread, which look at
what is committed, right after it). The entries of a batch are requests of their own.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import responses
from typing import TYPE_CHECKING, Any, Final

import msgspec

from fhir_server.audit import requests as audit
from fhir_server.conditions import entity_tags, instant_seconds
from fhir_server.context import FhirRequest, FhirResponse
from fhir_server.errors import (
    BadRequest,
    FhirError,
    Forbidden,
    Invalid,
    Issue,
    NotFound,
    Outcome,
    outcome,
    outcome_resource,
)
from fhir_server.gzipped import inflate
from fhir_server.linking import Links, copied
from fhir_server.repository import Repository
from fhir_server.resources import jsonformat, validate
from fhir_server.resources.types import TYPE_SET, is_id
from fhir_server.wire import instant
from fhir_server.writing import AlreadyDone, Result, Write, relabel

if TYPE_CHECKING:
    from fhir_server.interactions.dispatch import Interaction

logger = logging.getLogger(__name__)

_encode = msgspec.json.encode
_SOME_REQUEST: Final = {"method": "GET", "url": "metadata"}
_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_BATCH_ORDER: Final = {"DELETE": 0, "POST": 1, "PUT": 2, "PATCH": 2, "GET": 3, "HEAD": 3}


@dataclass(slots=True)
class _Entry:
    """One entry that is understood."""

    index: int
    request: FhirRequest
    interaction: Interaction
    full_url: str

    @property
    def writes(self) -> bool:
        return self.interaction.plan is not None


def bundle(repository: Repository, request: FhirRequest) -> FhirResponse:
    """POST to the base: executes a batch or transaction. Any other Bundle is refused; POST [base]/Bundle stores one."""
    data = execute_bundle(repository, request.resource, prefer=request.prefer, handling=request.handling)
    assert data is not None
    return FhirResponse(200, json=data)


def execute_bundle(
    repository: Repository,
    resource: Any,
    *,
    prefer: str | None = None,
    handling: str = "lenient",
    ledger_key: str | None = None,
) -> bytes | None:
    """Executes a transaction or batch, and returns the response Bundle as JSON.

    `ledger_key`: a record committed with the transaction, or with each entry of a batch (key, slash, entry number).
    What the ledger has already is not done again: a transaction returns None, an entry of a batch answers 200
    without content.

    Raises: every FhirError of a transaction; of a batch only those of the Bundle itself.
    """
    if not isinstance(resource, dict) or resource.get("resourceType") != "Bundle":
        raise BadRequest("A Bundle is expected here.", code="structure")
    kind = resource.get("type")
    if kind not in ("transaction", "batch"):
        raise BadRequest(
            "Only a batch or a transaction can be executed; POST [base]/Bundle stores any Bundle.",
            code="value",
            expression="Bundle.type",
        )
    if kind == "transaction":
        try:
            return transaction(repository, resource, prefer=prefer, handling=handling, ledger_key=ledger_key)
        except AlreadyDone:
            return None
    faults = _faults(resource)
    entries: list[Any] = resource.get("entry") or []
    if None in faults:
        raise Invalid("The Bundle is not valid.", issues=faults[None])
    return _batch(repository, entries, faults, prefer, handling, ledger_key)


def _faults(resource: dict[str, Any]) -> dict[int | None, list[Issue]]:
    """Errors of the Bundle without its resources: by entry, and under None those of the Bundle itself."""
    found: dict[int | None, list[Issue]] = {}
    shell = dict(resource)
    entries = shell.pop("entry", None)
    if entries:
        if not isinstance(entries, list):
            raise Invalid("`entry` is an array.", expression="Bundle.entry")
        shell["entry"] = stripped = []
        for index, entry in enumerate(entries):
            if isinstance(entry, dict):
                entry = {name: value for name, value in entry.items() if name != "resource"}
                if "request" not in entry:
                    # bdl-3 would be said of the whole Bundle; in a batch it concerns this entry alone.
                    found[index] = [
                        Issue("error", "required", "The entry has no request.", (f"Bundle.entry[{index}]",))
                    ]
                    entry["request"] = _SOME_REQUEST
            stripped.append(entry)
    for issue in validate.validate(shell).errors:
        at: int | None = None
        for path in issue.expression:
            if path.startswith("Bundle.entry["):
                at = int(path[len("Bundle.entry[") : path.index("]")])
        found.setdefault(at, []).append(issue)
    return found


def _read_entry(repository: Repository, index: int, entry: dict[str, Any], prefer: str | None, handling: str) -> _Entry:
    """The request that an entry is. Raises BadRequest and what routing raises."""
    from fhir_server.interactions import dispatch  # dispatch imports this module

    described = entry.get("request")
    if not isinstance(described, dict):
        raise BadRequest("The entry has no request.", code="required")
    method, url = described.get("method"), described.get("url")
    if method not in _METHODS:
        raise BadRequest("The method of an entry is GET, HEAD, POST, PUT, PATCH or DELETE.", code="value")
    if not isinstance(url, str):
        raise BadRequest("The entry's request has no url.", code="required")
    path, _, query = _relative(repository, url).partition("?")
    target = dispatch.locate(path.split("/"))
    interaction = dispatch.choose("GET" if method == "HEAD" else method, target)
    if interaction is dispatch.BUNDLE:
        raise BadRequest("A batch or transaction inside another one is not executed.", code="not-supported")
    if interaction.code == "$reindex":
        raise BadRequest("This operation cannot be part of a Bundle.", code="not-supported")
    resource = entry.get("resource")
    if interaction.body == "resource" and resource is None:
        raise BadRequest("The entry needs a resource.", code="required")
    request = FhirRequest(
        method,
        type=target.type,
        id=target.id,
        version_id=target.version_id,
        operation=target.operation,
        compartment=target.compartment,
        query=query,
        resource=resource,
        label=f"Bundle.entry[{index}]",
    )
    request.prefer, request.handling = prefer, handling
    if "ifMatch" in described:
        request.if_match = entity_tags(described["ifMatch"], "ifMatch")
    if "ifNoneMatch" in described:
        request.if_none_match = entity_tags(described["ifNoneMatch"], "ifNoneMatch")
    if "ifModifiedSince" in described:
        request.if_modified_since = instant_seconds(described["ifModifiedSince"], "ifModifiedSince")
    if "ifNoneExist" in described:
        request.if_none_exist = described["ifNoneExist"]
    return _Entry(index, request, interaction, entry.get("fullUrl") or "")


def _relative(repository: Repository, url: str) -> str:
    """An entry's URL below the base: it may repeat the base."""
    settings = repository.server.settings
    for base in (settings.base_url, *settings.base_aliases):
        if url.startswith(base) and url[len(base) : len(base) + 1] in ("", "/", "?"):
            return url[len(base) :].removeprefix("/")
    if ":" in url.partition("?")[0] or "#" in url:
        raise BadRequest("The url of an entry is relative to the base of this server.", code="value")
    return url.removeprefix("/")


# --- transaction ------------------------------------------------------------------------------------------------------


def transaction(
    repository: Repository,
    resource: dict[str, Any],
    *,
    prefer: str | None = None,
    handling: str = "lenient",
    ledger_key: str | None = None,
) -> bytes:
    """Executes a transaction, all or nothing, and returns the response Bundle as JSON.

    Raises: AlreadyDone when the ledger has `ledger_key`; every FhirError, naming the entries at fault.
    """
    everything = [issue for issues in _faults(resource).values() for issue in issues]
    if everything:
        raise Invalid("The Bundle is not valid.", issues=everything)
    items: list[dict[str, Any]] = resource.get("entry") or []
    if ledger_key is not None:
        # Links are rewritten in place, and a load shows what was refused as it came.
        items = copied(items)
    entries: list[_Entry] = []
    writes: list[Write] = []
    issues: list[Issue] = []
    failure: FhirError | None = None
    links = Links(repository)
    named: set[str] = set()
    for index, item in enumerate(items):
        try:
            entry = _read_entry(repository, index, item, prefer, handling)
            if entry.interaction.code == "$break-the-glass":
                # It commits by itself: what it opened and told would outlast a transaction that is refused.
                raise BadRequest("This operation cannot be part of a transaction.", code="not-supported")
            entries.append(entry)
            if entry.interaction.plan is not None:
                write = entry.interaction.plan(repository, entry.request)
                write.full_url = entry.full_url
                if entry.full_url and entry.full_url in named:
                    raise BadRequest("Two entries have the same fullUrl.", code="duplicate")
                named.add(entry.full_url)
                writes.append(write)
        except FhirError as error:
            failure = relabel(error, f"Bundle.entry[{index}]")
            issues.extend(failure.issues)
    if failure is not None:
        raise type(failure)(str(failure), issues=issues)
    writing = [entry for entry in entries if entry.writes]
    within = [entry for entry in entries if not entry.writes and not _after_commit(entry)]

    noted: list[Any] = []

    def reads(inside: Repository) -> list[FhirResponse]:
        noted.clear()  # it may run again
        responses = []
        for entry in within:
            first = _mark(inside)
            responses.append(_run(inside, entry))
            _note(inside, entry.request, entry.interaction.code, first, into=noted)
        return responses

    results, answers = repository.execute_with(writes, reads, links=links, ledger_key=ledger_key)
    repository.context.events += noted
    answered: dict[int, bytes] = {}
    given: set[str] = set()
    for entry, result in zip(writing, results, strict=True):
        answered[entry.index] = _answered_write(repository, entry, result, given)
    for entry, response in zip(within, answers, strict=True):
        answered[entry.index] = _response_entry(repository, entry, response, given)
    for entry in entries:
        if _after_commit(entry):
            first = _mark(repository)
            answered[entry.index] = _response_entry(repository, entry, _run(repository, entry), given)
            _note(repository, entry.request, entry.interaction.code, first)
    return _response_bundle(repository, "transaction-response", [answered[index] for index in range(len(items))])


def _after_commit(entry: _Entry) -> bool:
    return entry.interaction.code in ("vread", "history-instance", "history-type", "history-system") or (
        entry.request.operation == "meta" and entry.request.version_id is not None
    )


def _run(repository: Repository, entry: _Entry) -> FhirResponse:
    try:
        return entry.interaction.run(repository, entry.request)
    except FhirError as error:
        raise relabel(error, entry.request.label) from None


def _mark(repository: Repository) -> int:
    """Where an entry begins in what the audit has seen."""
    return len(repository.context.seen or ())


def _note(
    repository: Repository,
    request: FhirRequest,
    code: str,
    first: int,
    error: Exception | None = None,
    *,
    into: list[Any] | None = None,
) -> None:
    """Keeps for the audit what became of an entry; a write that succeeded is kept with its transaction."""
    context = repository.context
    if context.seen is not None:
        event = audit.answered(repository.server, context, request, code, context.seen[first:], error)
        (context.events if into is None else into).append(event)


def _answered_write(repository: Repository, entry: _Entry, result: Result, given: set[str]) -> bytes:
    assert entry.interaction.answer is not None
    return _response_entry(repository, entry, entry.interaction.answer(repository, entry.request, result), given)


def update_write(repository: Repository, resource: dict[str, Any]) -> Write:
    """The update that puts a resource at its own id, for tools beside the server. Raises BadRequest."""
    kind, id_ = resource.get("resourceType"), resource.get("id")
    if kind not in TYPE_SET or not isinstance(id_, str) or not is_id(id_):
        raise BadRequest("The resource has no type or no id that it can be stored at.", code="value")
    return Write("update", kind, id_, resource=resource)


# --- batch ------------------------------------------------------------------------------------------------------------


def _batch(
    repository: Repository,
    items: Sequence[Any],
    faults: dict[int | None, list[Issue]],
    prefer: str | None,
    handling: str,
    ledger_key: str | None,
) -> bytes:
    answered: dict[int, bytes] = {}
    given: set[str] = set()

    def order(index: int) -> int:
        request = items[index].get("request") if isinstance(items[index], dict) else None
        method = request.get("method") if isinstance(request, dict) else None
        return _BATCH_ORDER.get(method, 3) if isinstance(method, str) else 3

    for index in sorted(range(len(items)), key=order):
        entry: _Entry | None = None
        repository.context.purpose = repository.context.reason = None  # each entry has its own
        first = _mark(repository)
        failure: Exception | None = None
        try:
            if index in faults:
                raise Invalid("The entry is not valid.", issues=faults[index])
            entry = _read_entry(repository, index, items[index], prefer, handling)
            key = f"{ledger_key}/{index}" if ledger_key is not None else None
            try:
                answered[index] = _answer(repository, entry, key, given)
            except (Forbidden, NotFound):
                if not repository.context.refresh():
                    raise
                answered[index] = _answer(repository, entry, key, given)
        except AlreadyDone:
            answered[index] = b'{"response":{"status":"200 OK"}}'
        except FhirError as error:
            failure = error
            answered[index] = _failed(outcome(relabel(error, f"Bundle.entry[{index}]")))
        except Exception as error:
            failure = error
            logger.error(
                "Request %s failed at entry %d of a batch.", repository.context.request_id, index, exc_info=error
            )
            answered[index] = _failed(outcome(error))
        if entry is None:
            _note(repository, FhirRequest("POST"), "batch", first, failure)
        elif failure is not None or not entry.writes:
            _note(repository, entry.request, entry.interaction.code, first, failure)
    return _response_bundle(repository, "batch-response", [answered[index] for index in range(len(items))])


def _answer(repository: Repository, entry: _Entry, ledger_key: str | None, given: set[str]) -> bytes:
    """The response entry of an entry that is executed by itself."""
    if entry.interaction.plan is None:
        return _response_entry(repository, entry, _run(repository, entry), given)
    write = entry.interaction.plan(repository, entry.request)
    result = repository.execute([write], ledger_key=ledger_key)[0]
    return _answered_write(repository, entry, result, given)


def _failed(found: Outcome) -> bytes:
    response = {"status": _status(found.status), "outcome": outcome_resource(found.issues)}
    return b'{"response":%s}' % jsonformat.encode(response)


# --- responses --------------------------------------------------------------------------------------------------------


def _status(code: int) -> str:
    return f"{code} {responses.get(code, '')}".strip()


def _response_entry(repository: Repository, entry: _Entry, response: FhirResponse, given: set[str]) -> bytes:
    """Bundle.entry of one response: its status, headers and, where there is one, its resource."""
    described: dict[str, Any] = {"status": _status(response.status)}
    if response.location is not None:
        described["location"] = response.location
    if response.etag is not None:
        described["etag"] = f'W/"{response.etag}"'
    if response.updated is not None:
        described["lastModified"] = instant(response.updated)
    body: bytes | None = None
    if entry.request.method == "HEAD":
        pass
    elif response.json is not None:
        body = response.json
    elif response.member is not None:
        body = inflate(response.member)
    elif response.resource is not None:
        if response.resource["resourceType"] == "OperationOutcome" and not entry.request.operation:
            described["outcome"] = response.resource
        else:
            body = jsonformat.encode(response.resource)
    if body is None:
        return b'{"response":%s}' % jsonformat.encode(described)
    head = b"{"
    if response.location is not None or entry.interaction.code in ("read", "update", "patch"):
        address = (response.location or f"{entry.request.type}/{entry.request.id}").partition("/_history")[0]
        if address not in given:
            # bdl-7: the same resource twice may have its fullUrl once.
            given.add(address)
            head = b'{"fullUrl":%s,' % _encode(f"{repository.server.settings.base_url}/{address}")
    return b'%s"resource":%s,"response":%s}' % (head, body, jsonformat.encode(described))


def _response_bundle(repository: Repository, kind: str, entries: Sequence[bytes]) -> bytes:
    server = repository.server
    head = b'{"resourceType":"Bundle","id":%s,"meta":{"lastUpdated":"%s"},"type":"%s"' % (
        _encode(server.new_id()),
        instant(server.clock()).encode(),
        kind.encode(),
    )
    links = b',"link":[{"relation":"self","url":%s}]' % _encode(server.settings.base_url)
    if not entries:
        return head + links + b"}"
    return head + links + b',"entry":[' + b",".join(entries) + b"]}"
