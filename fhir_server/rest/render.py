"""FhirResponse to status line, headers and body bytes. R4 http.html#mime-type, #versioning, #create.

Stored JSON goes out as it is: only XML and `_pretty` parse it.
"""

from __future__ import annotations

from http.client import responses
from typing import Final

from fhir_server.context import FhirResponse
from fhir_server.gzipped import deflate, inflate
from fhir_server.resources import jsonformat
from fhir_server.rest.negotiate import CONTENT_TYPES
from fhir_server.wire import http_date

STATUS_LINES: Final[dict[int, str]] = {code: f"{code} {phrase}" for code, phrase in responses.items()}
STATUS_LINES[422] = "422 Unprocessable Entity"
STATUS_LINES[413] = "413 Content Too Large"

_COMPRESS_ABOVE: Final = 1400  # a body that fits one packet gains nothing

Rendered = tuple[str, list[tuple[str, str]], bytes]


def body_of(response: FhirResponse) -> bytes | None:
    """The JSON of what the response carries; None when it carries nothing."""
    if response.json is not None:
        return response.json
    if response.member is not None:
        return inflate(response.member)
    if response.resource is not None:
        return jsonformat.encode(response.resource)
    return None


def render(response: FhirResponse, *, form: str, pretty: bool = False, gzip: bool = False) -> Rendered:
    """Status line, headers and body. `gzip`: the client accepts that encoding."""
    headers: list[tuple[str, str]] = []
    if response.etag is not None:
        headers.append(("ETag", f'W/"{response.etag}"'))
    if response.updated is not None:
        headers.append(("Last-Modified", http_date(response.updated)))
    if response.location is not None:
        headers.append(("Location", response.location))
    if response.headers:
        headers.extend(response.headers)
    status = STATUS_LINES[response.status]
    if response.raw is not None:
        headers.append(("Content-Type", response.media))
        headers.append(("Content-Length", str(len(response.raw))))
        return status, headers, response.raw

    encoded = False
    if form == "json" and not pretty and response.json is None and response.member is not None and gzip:
        body: bytes | None = response.member
        encoded = True
    else:
        body = body_of(response)
    if body is None:
        if response.status != 304:
            headers.append(("Content-Length", "0"))
        return status, headers, b""
    if not encoded:
        if form == "xml":
            from fhir_server.resources import xmlformat

            body = xmlformat.encode(jsonformat.parse(body), pretty=pretty)
        elif pretty:
            body = jsonformat.encode(jsonformat.parse(body), pretty=True)
        if gzip and len(body) > _COMPRESS_ABOVE:
            body = deflate(body)
            encoded = True
    headers.append(("Content-Type", CONTENT_TYPES[form]))
    if encoded:
        headers.append(("Content-Encoding", "gzip"))
    headers.append(("Vary", "Accept, Accept-Encoding, Prefer"))
    headers.append(("Content-Length", str(len(body))))
    return status, headers, body
