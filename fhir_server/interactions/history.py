"""history of an instance, a type and the system. R4 http.html#history; bundle.html (bdl-3, bdl-4, bdl-7, bdl-8)."""

from __future__ import annotations

from typing import Any

import msgspec

from fhir_server.context import FhirRequest, FhirResponse
from fhir_server.errors import BadRequest
from fhir_server.gzipped import inflate
from fhir_server.interactions.pages import link, next_url, open_position, seal_position
from fhir_server.interactions.read import shape_of
from fhir_server.interactions.shaping import subset
from fhir_server.repository import Repository
from fhir_server.resources import jsonformat
from fhir_server.search.parse import parse_query
from fhir_server.storage.protocol import HistoryPage, HistoryQuery
from fhir_server.storage.writes import Stored
from fhir_server.wire import instant, query_string
from fhir_server.writing import parse_body

_encode = msgspec.json.encode


def history_instance(repository: Repository, request: FhirRequest) -> FhirResponse:
    """All versions of one resource, newest first; 404 when the id never existed."""
    return _history(repository, request)


def history_type(repository: Repository, request: FhirRequest) -> FhirResponse:
    """All versions of all resources of a type, newest first."""
    return _history(repository, request)


def history_system(repository: Repository, request: FhirRequest) -> FhirResponse:
    """All versions of everything, newest first."""
    return _history(repository, request)


def _history(repository: Repository, request: FhirRequest) -> FhirResponse:
    server = repository.server
    settings = server.settings
    parameters = _parameters(repository, request.query)
    where = "/".join(part for part in (request.type, request.id, "_history") if part)
    position: dict[str, Any] = {}
    if "_cursor" in parameters:
        position = open_position(server, where, parameters["_cursor"])
        parameters = position["p"]
    count = _count(parameters.get("_count"), settings.default_count, settings.max_count)
    query = HistoryQuery(
        request.type,
        request.id,
        since=_since(repository, parameters.get("_since")),
        at=_at(repository, parameters.get("_at")),
        count=max(count, 1),
        before=tuple(position["b"]) if position else None,
        until=position.get("u"),
        total=not position,
    )
    page = repository.history(query)
    if count == 0:
        page = HistoryPage(total=page.total, watermark=page.watermark)
    plain = [(name, value) for name, value in parameters.items() if name != "_cursor"]
    if "_count" in parameters:
        plain = [(name, str(count) if name == "_count" else value) for name, value in plain]
    base = f"{settings.base_url}/{where}"
    links = [link("self", f"{base}?{query_string(plain)}" if plain else base)]
    if page.next is not None:
        token = seal_position(server, where, {"p": parameters, "b": list(page.next), "u": page.watermark})
        links.append(link("next", next_url(base, token, parameters.items())))
    summary, elements = shape_of(query_string(list(parameters.items())))
    parts = [b'{"resourceType":"Bundle","id":', _encode(server.new_id())]
    parts.append(b',"meta":{"lastUpdated":"%s"},"type":"history"' % instant(server.clock()).encode())
    total = page.total
    if total is not None:
        parts.append(b',"total":%d' % total)
    parts.append(b',"link":[' + b",".join(links) + b"]")
    if page.entries:
        entries = [_entry(stored, settings.base_url, summary, elements) for stored in page.entries]
        parts.append(b',"entry":[' + b",".join(entries) + b"]")
    parts.append(b"}")
    return FhirResponse(200, json=b"".join(parts))


def _entry(stored: Stored, base: str, summary: str | None, elements: tuple[str, ...]) -> bytes:
    """One version. A deletion has no resource, and no fullUrl: two of them in one page would break bdl-7."""
    address = stored.address
    url = stored.type if stored.method == "POST" else address
    if stored.body is None:
        status = "204"
    else:
        status = "201" if stored.version == 1 or stored.method == "POST" else "200"
    response = {
        "status": status,
        "location": f"{address}/_history/{stored.version}",
        "etag": f'W/"{stored.version}"',
        "lastModified": instant(stored.updated),
    }
    tail = b'"request":%s,"response":%s}' % (_encode({"method": stored.method, "url": url}), _encode(response))
    if stored.body is None:
        return b"{" + tail
    body = inflate(stored.body)
    if summary or elements:
        body = jsonformat.encode(subset(parse_body(stored.body), summary, elements))
    return b'{"fullUrl":%s,"resource":%s,' % (_encode(f"{base}/{address}"), body) + tail


_KNOWN = frozenset(
    ("_since", "_at", "_count", "_format", "_pretty", "_summary", "_elements", "_cursor", "_sort", "_total")
)


def _parameters(repository: Repository, query: str) -> dict[str, str]:
    """The parameters of a history, each at most once; unknown ones are 400 in strict handling."""
    found: dict[str, str] = {}
    for name, value in parse_query(query):
        if name not in _KNOWN:
            if repository.context.handling == "strict":
                raise BadRequest("A history has the parameters _since, _at and _count.", code="not-supported")
            continue
        if value == "" or name in ("_sort", "_total"):
            continue
        if name in found:
            raise BadRequest(f"`{name}` may be given once.", code="invalid")
        found[name] = value
    if "_since" in found and "_at" in found:
        raise BadRequest("`_since` and `_at` exclude each other.", code="invalid")
    return found


def _count(text: str | None, default: int, most: int) -> int:
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise BadRequest("`_count` must be a whole number.", code="value")
    return min(int(text), most)


def _range(repository: Repository, text: str, name: str) -> tuple[int, int]:
    try:
        return repository.server.extractor.settings.calendar.range(text.replace(" ", "+"))
    except ValueError:
        raise BadRequest(f"`{name}` must be a date, dateTime or instant.", code="value") from None


def _since(repository: Repository, text: str | None) -> int | None:
    return None if text is None else _range(repository, text, "_since")[0]


def _at(repository: Repository, text: str | None) -> tuple[int, int] | None:
    return None if text is None else _range(repository, text, "_at")
