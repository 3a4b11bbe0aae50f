"""What apps and back-end services call: JSON endpoints, with CORS where browser apps need it. Never a page.

Metadata, keys, token, introspection, revocation, registration, userinfo and launches.
"""

from __future__ import annotations

import json
from typing import Any, Final
from urllib.parse import urlsplit

from authlib.oauth2.rfc6749 import InvalidRequestError, OAuth2Error, UnsupportedGrantTypeError
from flask import Blueprint, Response, request
from werkzeug.exceptions import HTTPException

from smart_auth import limits
from smart_auth.context import Auth
from smart_auth.discovery import (
    INTROSPECT,
    JWKS,
    REGISTER,
    REVOKE,
    STYLE,
    STYLE_VALUES,
    TOKEN,
    USERINFO,
    oauth_metadata,
    openid_configuration,
    smart_configuration,
)
from smart_auth.launches import LIFETIME_S as LAUNCH_LIFETIME_S
from smart_auth.oauth.backend import BackendGrant
from smart_auth.oauth.client_auth import METHOD as PRIVATE_KEY_JWT
from smart_auth.oauth.client_auth import SignedAssertion
from smart_auth.oauth.introspect import Introspection, InvalidBearerToken
from smart_auth.oauth.openid import IdToken, identity
from smart_auth.oauth.pages import Issuer as IssuerParameter
from smart_auth.oauth.pkce import S256Challenge
from smart_auth.oauth.register import JsonRequest, Registration, described, owner
from smart_auth.oauth.revoke import Revocation
from smart_auth.oauth.server import Server, bearer, read_form
from smart_auth.oauth.token import CodeGrant, Issuer, RotatingRefreshGrant
from smart_auth.problems import Throttled, UnusableValue
from smart_auth.records import Account
from smart_auth.store.protocol import StoreBusy
from smart_auth.tokens import InvalidToken, Verified
from smart_auth.web.shell import current_account, current_session

LAUNCH: Final = "/oauth/launch"
MAX_BODY: Final = 256 * 1024
METADATA_AGE_S: Final = 300
KEYS_AGE_S: Final = 600

_ANY: Final = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
_BUSY_S: Final = 1


def make_server(auth: Auth) -> Server:
    """Authlib's server with everything that is supported, and nothing else."""
    server = Server(auth)
    server.register_token_generator("default", Issuer(server))
    server.register_client_auth_method(PRIVATE_KEY_JWT, SignedAssertion(server))
    server.register_grant(CodeGrant, [S256Challenge(), IdToken(auth)])
    server.register_grant(RotatingRefreshGrant)
    server.register_grant(BackendGrant)
    server.register_endpoint(Introspection)
    server.register_endpoint(Revocation)
    server.register_endpoint(Registration)
    server.register_extension(IssuerParameter(auth.settings.issuer))
    return server


def blueprint(auth: Auth, server: Server) -> Blueprint:
    """The endpoints."""
    api = Blueprint("oauth", __name__)
    counts = auth.accounts.limits
    open_to_browsers = set()

    def endpoint(path: str, *methods: str, cors: bool = True) -> Any:
        """Registers a view for some methods; all others are answered 405 in JSON, OPTIONS with what CORS asks."""

        def register(view: Any) -> Any:
            allowed = ", ".join((*methods, "OPTIONS"))
            name = view.__name__
            if cors:
                open_to_browsers.add(f"oauth.{name}")

            def guarded(**parts: str) -> Response:
                if request.method == "OPTIONS":
                    return Response(status=204, headers={"Allow": allowed, "Access-Control-Allow-Methods": allowed})
                if request.method not in methods and not (request.method == "HEAD" and "GET" in methods):
                    return _json({"error": "invalid_request"}, 405, {"Allow": allowed})
                answer: Response = view(**parts)
                return answer

            api.add_url_rule(path, name, guarded, methods=_ANY, provide_automatic_options=False)
            return view

        return register

    # --- what is known to everybody -----------------------------------------------------------------------------------

    @endpoint(urlsplit(auth.settings.base_url).path.rstrip("/") + "/.well-known/smart-configuration", "GET")
    def smart() -> Response:
        return _published(smart_configuration(auth.settings), METADATA_AGE_S)

    @endpoint("/.well-known/oauth-authorization-server", "GET")
    def metadata() -> Response:
        return _published(oauth_metadata(auth.settings), METADATA_AGE_S)

    @endpoint("/.well-known/openid-configuration", "GET")
    def openid() -> Response:
        return _published(openid_configuration(auth.settings), METADATA_AGE_S)

    @endpoint(JWKS, "GET")
    def jwks() -> Response:
        return _published(auth.keys.jwks(), KEYS_AGE_S)

    @endpoint(STYLE, "GET")
    def style() -> Response:
        return _published(STYLE_VALUES, METADATA_AGE_S)

    # --- tokens -------------------------------------------------------------------------------------------------------

    @endpoint(TOKEN, "POST")
    def token() -> Response:
        """RFC 6749 section 3.2."""
        asked = read_form(request)
        grant_type = asked.form.get("grant_type")
        if grant_type is None:
            raise InvalidRequestError("grant_type is required.")
        if grant_type not in ("authorization_code", "refresh_token", "client_credentials"):
            error = UnsupportedGrantTypeError("")
            error.description = "grant_type has to be authorization_code, refresh_token or client_credentials."
            raise error
        response: Response = server.create_token_response(asked)
        if response.status_code != 200:
            client = asked.client.record if asked.client is not None else None
            why = json.loads(response.get_data())
            server.tell(
                "token-refused", client, asked.address, outcome=4, grant_type=grant_type,
                error=why["error"], why=why.get("error_description", ""),
            )  # fmt: skip
        return response

    @endpoint(INTROSPECT, "POST")
    def introspect() -> Response:
        """RFC 7662 section 2."""
        answer: Response = server.create_endpoint_response(Introspection.ENDPOINT_NAME, read_form(request))
        return answer

    @endpoint(REVOKE, "POST")
    def revoke() -> Response:
        """RFC 7009 section 2."""
        answer: Response = server.create_endpoint_response(Revocation.ENDPOINT_NAME, read_form(request))
        return answer

    @endpoint(USERINFO, "GET", "POST")
    def userinfo() -> Response:
        """OpenID Connect Core section 5.3."""
        verified = _bearer()
        if "openid" not in verified.scopes:
            challenge = {"WWW-Authenticate": 'Bearer error="insufficient_scope", scope="openid"'}
            return _json({"error": "insufficient_scope"}, 403, challenge)
        return _json(identity(auth, verified.grant, " ".join(verified.scopes)), 200)

    # --- registration -------------------------------------------------------------------------------------------------

    @endpoint(REGISTER, "POST")
    def register() -> Response:
        """RFC 7591 section 3."""
        answer: Response = server.create_endpoint_response(Registration.ENDPOINT_NAME, JsonRequest(request))
        return answer

    @endpoint(REGISTER + "/<client_id>", "GET", "DELETE")
    def registration(client_id: str) -> Response:
        """RFC 7592 sections 2.1 and 2.3."""
        client = owner(auth, client_id, request.headers)
        if request.method == "DELETE":
            server.clients.delete(client.id, by=client.id, address=request.remote_addr or "")
            return Response(status=204, headers=_NO_STORE)
        return _json(described(client), 200)

    # --- launches -----------------------------------------------------------------------------------------------------

    @endpoint(LAUNCH, "POST", cors=False)
    def launch() -> Response:
        """Prepares an EHR launch for the person whose session or token it is: `patient`, `encounter`, `client_id`,
        and the launch parameters of SMART.
        """
        given = JsonRequest(request).metadata
        account, role = _launcher()
        named = {name: given.get(name) for name in ("patient", "encounter", "client_id")}
        if not all(value is None or isinstance(value, str) for value in named.values()):
            raise InvalidRequestError("patient, encounter and client_id are texts.")
        try:
            made = server.launches.create(
                account, role, client=named["client_id"], patient=named["patient"], encounter=named["encounter"],
                context=given,
            )  # fmt: skip
        except UnusableValue as problem:
            raise InvalidRequestError(f"{problem.field}: {problem.reason}") from None
        body: dict[str, Any] = {"launch": made, "iss": auth.settings.base_url, "expires_in": LAUNCH_LIFETIME_S}
        client = server.clients.get(named["client_id"]) if named["client_id"] else None
        if client is not None and (address := server.launches.address(client, made)) is not None:
            body["launch_url"] = address
        server.tell(
            "launch", client, request.remote_addr or "", account=account.id, name=account.name, role=role,
            patient=named["patient"],
        )  # fmt: skip
        return _json(body, 201)

    def _launcher() -> tuple[Account, str]:
        """Who launches: staff by a token, the hospital's own apps for anybody, or the person of a session."""
        if bearer(request.headers) is None:
            session = current_session()
            # A form of another site cannot send JSON, and brings no cookie; a page of another origin says so.
            if session is None or session.role is None or request.headers.get("Origin", _origin) != _origin:
                raise InvalidBearerToken("Log in, or send an access token.")
            return current_account(), session.role
        verified = _bearer()
        grant = verified.grant
        account = auth.accounts.get(grant.account) if grant.account is not None else None
        client = server.clients.active(grant.client)
        if account is None or client is None or (grant.role == "patient" and not client.trusted):
            raise OAuth2Error(error="access_denied", description="Launches are for staff.", status_code=403)
        return account, grant.role

    _origin = auth.settings.issuer

    def _bearer() -> Verified:
        found = bearer(request.headers)
        if found is None:
            raise InvalidBearerToken("An access token is required.")
        try:
            return auth.tokens.verify(found)
        except InvalidToken:
            raise InvalidBearerToken() from None

    # --- around every request -----------------------------------------------------------------------------------------

    @api.before_request
    def bound() -> None:
        request.max_content_length = MAX_BODY
        if request.path in (INTROSPECT, LAUNCH) and bearer(request.headers) is not None:
            counts.hit_address(_BEARERS, request.remote_addr or "")

    @api.after_request
    def admit_browsers(response: Response) -> Response:
        """Fetch standard, "CORS protocol". Nothing here is decided by cookies but launches, which are not admitted."""
        origin = request.headers.get("Origin")
        if request.endpoint not in open_to_browsers or origin is None:
            return response
        origins = auth.settings.cors_origins
        if "*" in origins or origin in origins:
            response.headers["Access-Control-Allow-Origin"] = "*" if "*" in origins else origin
            response.headers["Access-Control-Expose-Headers"] = "WWW-Authenticate, Retry-After"
            if request.method == "OPTIONS":
                response.headers["Access-Control-Allow-Headers"] = "Authorization, Content-Type, Accept"
                response.headers["Access-Control-Max-Age"] = "600"
        if "*" not in origins:
            response.vary.add("Origin")
        return response

    @api.errorhandler(OAuth2Error)
    def refuse(error: OAuth2Error) -> Response:
        status, body, headers = error()
        return _json(body, status, dict(headers))

    @api.errorhandler(Throttled)
    def throttle(error: Throttled) -> Response:
        body = {"error": "temporarily_unavailable", "error_description": "Too many requests."}
        return _json(body, 429, {"Retry-After": str(error.retry_after_s)})

    @api.errorhandler(StoreBusy)
    def busy(error: StoreBusy) -> Response:
        body = {"error": "temporarily_unavailable", "error_description": "Please repeat the request."}
        return _json(body, 503, {"Retry-After": str(_BUSY_S)})

    def other(error: HTTPException) -> Response:
        code = error.code or 500
        return _json({"error": "invalid_request" if code < 500 else "server_error"}, code)

    for code in (400, 404, 405, 413, 415, 500):  # by code: the pages have handlers of their own for these
        api.register_error_handler(code, other)

    return api


_BEARERS: Final = limits.Limit("bearer-address", 1200, 60)
_NO_STORE: Final = {"Cache-Control": "no-store", "Pragma": "no-cache"}


def _json(body: Any, status: int, headers: dict[str, str] | None = None) -> Response:
    """RFC 6749 section 5.1: nothing of this is kept by caches."""
    text = json.dumps(body, ensure_ascii=False)
    return Response(text, status, {**_NO_STORE, **(headers or {})}, content_type="application/json")


def _published(body: Any, age_s: int) -> Response:
    headers = {"Cache-Control": f"public, max-age={age_s}"}
    return Response(json.dumps(body), 200, headers, content_type="application/json")
