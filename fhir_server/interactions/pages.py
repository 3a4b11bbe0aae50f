"""Links of paged Bundles: what is opaque in them, and how it is sealed. R4 http.html#paging,
search.html#conformance.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from fhir_server.context import Server
from fhir_server.search import cursor
from fhir_server.wire import query_string


def link(relation: str, url: str) -> bytes:
    """One Bundle.link as JSON."""
    return b'{"relation":"%s","url":%s}' % (relation.encode(), msgspec.json.encode(url))


def next_url(path: str, token: str, pairs: Iterable[tuple[str, str]]) -> str:
    """The URL of a next page: the token, and in the open only the format that the first page was asked for in."""
    shown = [(name, value) for name, value in pairs if name in ("_format", "_pretty")]
    return f"{path}?{query_string([('_cursor', token), *shown])}"


def seal_position(server: Server, where: str, payload: dict[str, Any]) -> str:
    """An opaque token for a place in the results of the path `where`; every worker can open it."""
    return cursor.seal(server.cursor_key, _plain(payload), cursor.digest(where))


def _plain(value: Any) -> Any:
    """JSON without subclasses of int, which drivers of databases have."""
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else value


def open_position(server: Server, where: str, token: str) -> dict[str, Any]:
    """What a token holds. Raises BadRequest for what is none, Gone for one that expired or belongs to another path."""
    return cursor.open(server.cursor_key, token, cursor.digest(where))
