"""Access tokens of requests. RFC 6750 section 2.1: in the Authorization header, and nowhere else.

Tokens in a form or a query (sections 2.2 and 2.3) are not looked at: URLs end up in logs. Nor are cookies: no page
that a browser visits can make it call this API with somebody's rights.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Protocol

from fhir_server.errors import REALM, Forbidden, Unauthorized

if TYPE_CHECKING:
    from fhir_server.access.caller import Caller
    from fhir_server.context import Server

_BEARER: Final = re.compile(r"bearer +([A-Za-z0-9\-._~+/]+=*) *", re.ASCII | re.IGNORECASE)
MAX_TOKEN: Final = 8192
_USUAL: Final = 2048
"""Headers up to this long are remembered."""


class Gate(Protocol):
    """Turns an access token into a Caller; `hestia/gate.py` asks the authorization server."""

    def enter(self, server: Server, token: str, address: str) -> Caller:
        """Who calls from `address` (the client's IP) with a token. Raises Unauthorized (401), Throttled (429)."""


@lru_cache(maxsize=1024)
def _read(header: str) -> str | None:
    """The token in a header; the same object as before for the same header, which a dict finds sooner."""
    found = _BEARER.fullmatch(header)
    return found[1] if found is not None and len(found[1]) <= MAX_TOKEN else None


def token_of(environ: Mapping[str, Any]) -> str:
    """The access token of a request. Raises Unauthorized (401) when there is none, or it cannot be one."""
    header = environ.get("HTTP_AUTHORIZATION")
    if not header:
        raise Unauthorized("An access token is needed.")
    token = _read(header) if len(header) <= _USUAL else _read.__wrapped__(header)
    if token is not None:
        return token
    scheme = header.partition(" ")[0].lower()
    # RFC 6750 section 3.1: no error code for a request that has no (bearer) token at all.
    raise Unauthorized(
        "Access tokens are presented as `Authorization: Bearer`.",
        token_error="invalid_token" if scheme == "bearer" else None,
    )


def enter(gate: Gate, server: Server, environ: Mapping[str, Any]) -> Caller:
    """Who makes a request. Raises Unauthorized (401), Throttled (429)."""
    return gate.enter(server, token_of(environ), str(environ.get("REMOTE_ADDR", "")))


def explained(error: Forbidden) -> Forbidden:
    """The refusal with the challenge of RFC 6750 section 3.1 for a token that is valid and not enough."""
    error.headers.setdefault("WWW-Authenticate", f'Bearer realm="{REALM}", error="insufficient_scope"')
    return error
