"""Dynamic client registration, RFC 7591, and reading and deleting one's registration, RFC 7592.

A registration waits for an administrator's approval, unless the settings open it; until then the client cannot do
anything with its client_id.
"""

from __future__ import annotations

import hmac
import json
import secrets
from typing import Any, Final

from authlib.consts import default_json_headers
from authlib.oauth2.rfc6749 import AccessDeniedError, InvalidRequestError, OAuth2Error
from authlib.oauth2.rfc7591 import (
    ClientRegistrationEndpoint,
    InvalidClientMetadataError,
    InvalidRedirectURIError,
)
from flask import Request

from smart_auth import limits
from smart_auth.clients import ASYMMETRIC, AUTH_METHODS, BACKEND, PUBLIC, SYMMETRIC, Metadata, texts
from smart_auth.context import Auth
from smart_auth.discovery import REGISTER
from smart_auth.oauth.introspect import InvalidBearerToken
from smart_auth.oauth.server import bearer
from smart_auth.problems import UnusableValue
from smart_auth.records import Client
from smart_auth.tokens import digest

_TYPES: Final = {"none": PUBLIC, "client_secret_basic": SYMMETRIC, "private_key_jwt": ASYMMETRIC}
_TEXTS: Final = ("scope", "jwks_uri", "logo_uri", "client_uri", "tos_uri", "policy_uri")
LAUNCH_URI: Final = "initiate_login_uri"
"""Where an app is launched, under the name that OpenID Connect has for it; `launch_uri` is understood too."""
_GRANTS: Final = frozenset(("authorization_code", "refresh_token"))
_MACHINE: Final = frozenset(("client_credentials",))


class JsonRequest:
    """A request with a JSON body, as the endpoint needs it."""

    def __init__(self, request: Request) -> None:
        self.headers = request.headers
        self.address = request.remote_addr or ""
        self.metadata = _object(request)
        self.credential: Any = None


def _object(request: Request) -> dict[str, Any]:
    """The JSON object of a body. Raises: InvalidRequestError."""
    if request.mimetype != "application/json":
        raise InvalidRequestError("The body has to be application/json.")
    try:
        found = json.loads(request.get_data().decode())
        # json reads halves of surrogate pairs, NaN and numbers beyond all bounds, none of which can be stored or sent.
        json.dumps(found, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        raise InvalidRequestError("The body is not JSON.") from None
    if not isinstance(found, dict):
        raise InvalidRequestError("The body has to be a JSON object.")
    return found


class Registration(ClientRegistrationEndpoint):
    """Anybody may register, within a rate limit; what is registered can do nothing before it is approved."""

    def create_endpoint_request(self, request: JsonRequest) -> JsonRequest:
        return request

    def authenticate_token(self, request: JsonRequest) -> bool:
        """RFC 7591 section 3: an open endpoint takes requests without an initial access token."""
        return bool(self.server.auth.settings.registration != "off")

    def create_registration_response(self, request: JsonRequest) -> tuple[int, dict[str, Any], Any]:
        """Section 3.2. Raises: AccessDeniedError, InvalidClientMetadataError, InvalidRedirectURIError, Throttled."""
        auth: Auth = self.server.auth
        if not self.authenticate_token(request):
            raise AccessDeniedError(status_code=403)
        auth.accounts.limits.hit_address(limits.REGISTRATION_PER_ADDRESS, request.address)
        token = secrets.token_urlsafe(32)
        try:
            client, secret = self.server.clients.create(
                metadata_of(request.metadata),
                status="active" if auth.settings.registration == "open" else "pending",
                address=request.address,
                registration_token_hash=digest(token),
            )
        except UnusableValue as problem:
            raise _refused(problem) from None
        body = described(client)
        if secret is not None:
            body |= {"client_secret": secret, "client_secret_expires_at": 0}
        body |= {
            "registration_access_token": token,
            "registration_client_uri": f"{auth.settings.issuer}{REGISTER}/{client.id}",
        }
        return 201, body, default_json_headers


def metadata_of(given: dict[str, Any]) -> Metadata:
    """The metadata of a request; what is not understood is left out (section 2). Raises: UnusableValue."""
    method = given.get("token_endpoint_auth_method", "client_secret_basic")
    grants = set(texts(given.get("grant_types", ["authorization_code"]), "grant_types"))
    type = _TYPES.get(method) if isinstance(method, str) else None
    if type is None:
        raise UnusableValue("token_endpoint_auth_method", "none, client_secret_basic and private_key_jwt are supported")
    if type == ASYMMETRIC and grants == _MACHINE:
        type = BACKEND
    elif not grants <= _GRANTS or "authorization_code" not in grants:
        raise UnusableValue(
            "grant_types", "authorization_code and refresh_token go together; client_credentials needs private_key_jwt"
        )
    responses = texts(given.get("response_types", [] if type == BACKEND else ["code"]), "response_types")
    if set(responses) - {"code"} or (type != BACKEND and not responses):
        raise UnusableValue("response_types", "only code is supported")
    for name in (*_TEXTS, LAUNCH_URI, "launch_uri"):
        if name in given and not isinstance(given[name], str):
            raise UnusableValue(name, "this has to be a text")
    name = given.get("client_name", "")
    jwks = given.get("jwks")
    if not isinstance(name, str) or not (jwks is None or isinstance(jwks, dict)):
        raise UnusableValue("client_name" if not isinstance(name, str) else "jwks", "this is of another type")
    return Metadata(
        name=name,
        type=type,
        redirect_uris=texts(given.get("redirect_uris", []), "redirect_uris"),
        jwks=jwks,
        launch_uri=given.get(LAUNCH_URI, given.get("launch_uri")),
        contacts=texts(given.get("contacts", []), "contacts"),
        **{name: given[name] for name in _TEXTS if name in given},
    )


def _refused(problem: UnusableValue) -> OAuth2Error:
    """RFC 7591 section 3.2.2."""
    error = InvalidRedirectURIError if problem.field == "redirect_uris" else InvalidClientMetadataError
    return error(f"{problem.field}: {problem.reason}")


def described(client: Client) -> dict[str, Any]:
    """A registration as section 3.2.1 has it, without secrets."""
    found: dict[str, Any] = {
        "client_id": client.id,
        "client_id_issued_at": client.created_at,
        "client_name": client.name,
        "redirect_uris": list(client.redirect_uris),
        "token_endpoint_auth_method": AUTH_METHODS[client.type],
        "grant_types": list(client.grant_types),
        "response_types": [] if client.type == BACKEND else ["code"],
        "scope": client.scope,
        "contacts": list(client.contacts),
        "status": client.status,
    }
    for name in ("client_uri", "logo_uri", "tos_uri", "policy_uri", "jwks_uri", "jwks"):
        value = getattr(client, name)
        if value is not None:
            found[name] = value
    if client.launch_uri is not None:
        found[LAUNCH_URI] = client.launch_uri
    return found


def owner(auth: Auth, client_id: str, headers: Any) -> Client:
    """The client whose registration access token was sent. RFC 7592 section 3. Raises: InvalidBearerToken."""
    token = bearer(headers)
    found = auth.store.get(Client, client_id)
    if found is None or found.registration_token_hash is None or token is None:
        raise InvalidBearerToken()
    if not hmac.compare_digest(found.registration_token_hash, digest(token)):
        raise InvalidBearerToken()
    return found
