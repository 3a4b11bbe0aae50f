"""SearchPage -> searchset Bundle, joined from stored bytes. R4 bundle.html#searchset (bdl-1, bdl-2, bdl-7, bdl-8).

The bodies are inflated and never parsed, unless `_summary`, `_elements` or `_contained` ask for something else than
what is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from fhir_server.errors import Issue, outcome_resource
from fhir_server.gzipped import inflate
from fhir_server.interactions.shaping import subset
from fhir_server.resources import jsonformat
from fhir_server.storage.protocol import SearchPage
from fhir_server.storage.writes import Stored
from fhir_server.wire import instant
from fhir_server.writing import parse_body

_encode = msgspec.json.encode
Cut = Callable[[Stored], bytes]

_MATCH = b',"search":{"mode":"match"}}'
_INCLUDE = b',"search":{"mode":"include"}}'
_OUTCOME = b',"search":{"mode":"outcome"}}'


def cutter(summary: str | None, elements: Sequence[str]) -> Cut:
    """How the body of a resource becomes what the client asked for."""
    if summary not in ("true", "text", "data") and not elements:
        return lambda stored: inflate(stored.body)  # type: ignore[arg-type]
    return lambda stored: jsonformat.encode(subset(parse_body(stored.body or b""), summary, elements))


def searchset(
    page: SearchPage,
    *,
    id: str,
    now: int,
    base: str,
    links: Sequence[bytes],
    cut: Cut,
    issues: Sequence[Issue] = (),
) -> bytes:
    """The Bundle as JSON. `base` is the server's, `links` are encoded; `issues` become one entry of mode outcome."""
    prefix = b'{"fullUrl":"' + _encode(base)[1:-1] + b"/"
    parts = [
        b'{"resourceType":"Bundle","id":"%s","meta":{"lastUpdated":"%s"},"type":"searchset"'
        % (id.encode(), instant(now).encode())
    ]
    if page.total is not None:
        parts.append(b',"total":%d' % page.total)
    parts.append(b',"link":[' + b",".join(links) + b"]")
    entries: list[bytes] = []
    if page.contained:
        entries = [
            _contained(stored, local, prefix, cut) for stored, local in zip(page.matches, page.contained, strict=True)
        ]
    else:
        for stored in page.matches:
            entries.append(
                b'%s%s/%s","resource":%s%s' % (prefix, stored.type.encode(), stored.id.encode(), cut(stored), _MATCH)
            )
    for stored in page.includes:
        entries.append(
            b'%s%s/%s","resource":%s%s' % (prefix, stored.type.encode(), stored.id.encode(), cut(stored), _INCLUDE)
        )
    if issues:
        entries.append(b'{"resource":' + jsonformat.encode(outcome_resource(issues)) + _OUTCOME)
    if entries:
        parts.append(b',"entry":[' + b",".join(entries) + b"]")
    parts.append(b"}")
    return b"".join(parts)


def _contained(stored: Stored, local: str, prefix: bytes, cut: Cut) -> bytes:
    """A match of a search with `_contained`: the contained resource, at the address of its container.
    search.html#contained
    """
    address = stored.address.encode()
    if not local:
        return b'%s%s","resource":%s%s' % (prefix, address, cut(stored), _MATCH)
    container: dict[str, Any] = parse_body(stored.body or b"")
    found = next((one for one in container.get("contained", ()) if one.get("id") == local), None)
    body = jsonformat.encode(found) if found is not None else cut(stored)
    return b'%s%s#%s","resource":%s%s' % (prefix, address, local.encode(), body, _MATCH)
