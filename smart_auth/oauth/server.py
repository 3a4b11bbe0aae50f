"""Authlib's AuthorizationServer over our records: requests, clients, who authenticates how, errors, rate limits."""

from __future__ import annotations

import hashlib
import json
from base64 import b64decode, urlsafe_b64decode
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import unquote_plus

from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.oauth2.rfc6749 import ClientMixin, InvalidClientError, InvalidRequestError, OAuth2Payload, OAuth2Request
from flask import Request
from werkzeug.datastructures import MultiDict

from smart_auth import limits, passwords, refusals
from smart_auth.clients import AUTH_METHODS, BACKEND, Clients, redirect_allowed
from smart_auth.context import Auth, AuthEvent
from smart_auth.fetch import Fetcher, KeySets
from smart_auth.launches import Launches
from smart_auth.records import Client, RefreshToken
from smart_auth.tokens import digest

MAX_VALUE: Final = 32_768
"""Characters of one parameter."""
PROVEN: Final = 256
"""Client secrets that a worker remembers as right: argon2id takes too long for a resource server's every request."""
INTROSPECTION_PER_CLIENT: Final = limits.Limit("introspection-client", 6000, 60)
FORM: Final = "application/x-www-form-urlencoded"


class Parameters(OAuth2Payload):
    """Parameters of a request, each once. One without a value counts as absent. RFC 6749 sections 3.1 and 3.2."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = {name: value for name, value in values.items() if value != ""}

    @property
    def data(self) -> dict[str, str]:
        return self._values

    @property
    def datalist(self) -> Any:
        return {name: [value] for name, value in self._values.items()}


class OAuthRequest(OAuth2Request):
    """A request as Authlib knows it, made of parameters that were read and checked already."""

    def __init__(self, method: str, values: Mapping[str, str], headers: Any, address: str) -> None:
        # Authlib refuses plain http here. TLS ends in front of this process, and the settings say what the issuer is.
        super().__init__(method=method, uri="https://request.invalid/", headers=headers)
        self.payload = Parameters(values)
        self.address = address
        self.refused = ""
        """Why a client was not let in, for the audit only."""

    @property
    def args(self) -> dict[str, str]:
        return {}

    @property
    def form(self) -> dict[str, str]:
        values: dict[str, str] = self.payload.data
        return values


class RegisteredClient(ClientMixin):
    """A Client record as Authlib asks it. Not a subclass: records are frozen and know no OAuth."""

    def __init__(self, record: Client) -> None:
        self.record = record

    def get_client_id(self) -> str:
        return self.record.id

    def get_default_redirect_uri(self) -> None:
        """There is none: SMART requires redirect_uri in every request."""

    def get_allowed_scope(self, scope: str | None) -> str | None:
        """As asked; what may be granted is decided in `authorize` and `backend`."""
        return scope

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        return redirect_allowed(self.record, redirect_uri)

    def check_client_secret(self, client_secret: str) -> bool:
        return passwords.verify(self.record.secret_hash, client_secret)

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return AUTH_METHODS[self.record.type] == method

    def check_response_type(self, response_type: str) -> bool:
        return response_type == "code" and self.record.type != BACKEND

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type in self.record.grant_types


class Server(AuthorizationServer):
    """The authorization server of one worker. `register_grant` and `register_endpoint` are called in routes.py."""

    def __init__(self, auth: Auth) -> None:
        self.auth = auth
        self.clients = Clients(auth)
        self.launches = Launches(auth)
        self.key_sets = KeySets(Fetcher(auth.settings.fetch_allow), auth.clock)
        self._proven: OrderedDict[bytes, None] = OrderedDict()
        super().__init__(query_client=self._query_client, save_token=lambda token, request: None)

    def _query_client(self, client_id: str) -> RegisteredClient | None:
        found = self.clients.active(client_id)
        return None if found is None else RegisteredClient(found)

    def create_oauth2_request(self, request: OAuthRequest) -> OAuthRequest:
        """Authlib would read Flask's request; ours was read by `read_form` or `read_query` before."""
        return request

    def authenticate_client(self, request: OAuthRequest, methods: Iterable[str], endpoint: str = "token") -> Any:
        """The client of a request, which uses exactly one method. RFC 6749 section 2.3.

        Raises: InvalidRequestError (several methods), InvalidClientError, limits' Throttled.
        """
        method, client_id = _method(request)
        if method == "none" and not client_id and request.form.get("grant_type") == "refresh_token":
            client_id = self._holder_of(request)
        counts = self.auth.accounts.limits
        limit = INTROSPECTION_PER_CLIENT if endpoint == "introspection" else limits.TOKEN_PER_CLIENT
        counts.hit(limit, f"{client_id}|{limits.network(request.address)}")
        try:
            if method not in methods:
                raise _refused(method, f"{method} is not supported here, but {', '.join(methods)}.")
            if method == "client_secret_basic":
                client = self._by_secret(client_id, basic(request.headers)[1])
            elif method == "none":
                client = self._public(client_id)
            else:
                client = super().authenticate_client(request, [method], endpoint)
        except InvalidClientError as error:
            counts.hit_address(limits.TOKEN_FAILURE_PER_ADDRESS, request.address)
            known = self.clients.get(client_id)
            self.tell("client-refused", known, request.address, outcome=8, why=error.description, endpoint=endpoint)
            raise
        request.auth_method = method
        request.client = client
        return client

    def _holder_of(self, request: OAuthRequest) -> str:
        """The public client whose refresh token this is, "" for none. RFC 6749 section 6 and SMART App Launch 2.2 list
        no client_id in such a request, and SMART's own JavaScript client sends none.
        """
        token = self.auth.store.get(RefreshToken, digest(request.form.get("refresh_token", "")))
        if token is None:
            return ""
        request.payload.data["client_id"] = token.client
        return token.client

    def _public(self, client_id: str) -> RegisteredClient:
        if not client_id:
            raise _refused("none", "client_id is required.")
        client = self._query_client(client_id)
        if client is None:
            raise _refused("none", "The client does not exist on this server.")
        if not client.check_endpoint_auth_method("none", "token"):
            raise _refused("none", f"This client authenticates with {AUTH_METHODS[client.record.type]}.")
        return client

    def _by_secret(self, client_id: str, secret: str) -> RegisteredClient:
        client = self._query_client(client_id)
        if client is None or not client.check_endpoint_auth_method("client_secret_basic", "token"):
            passwords.verify(None, secret)
            raise _refused("client_secret_basic", "The client or its secret is not right.")
        proof = hashlib.sha256(f"{client.record.secret_hash}\0{secret}".encode()).digest()
        if proof in self._proven:
            self._proven.move_to_end(proof)
            return client
        if not client.check_client_secret(secret):
            raise _refused("client_secret_basic", "The client or its secret is not right.")
        self._proven[proof] = None
        if len(self._proven) > PROVEN:
            self._proven.popitem(last=False)
        return client

    def tell(
        self,
        action: str,
        client: Client | None,
        address: str,
        *,
        outcome: int = 0,
        account: str | None = None,
        name: str | None = None,
        role: str | None = None,
        fhir_user: str | None = None,
        patient: str | None = None,
        **detail: str,
    ) -> None:
        """Tells the audit."""
        if outcome:
            refusals.told()
        self.auth.audit(
            AuthEvent(
                action,
                outcome,
                account=account,
                name=name,
                fhir_user=fhir_user,
                role=role,
                client=client.id if client is not None else None,
                client_name=client.name if client is not None else None,
                patient=patient,
                address=address or None,
                detail=detail,
            )
        )


def _method(request: OAuthRequest) -> tuple[str, str]:
    """How a client authenticates, and the client_id that it claims. Raises: InvalidRequestError, InvalidClientError."""
    form = request.form
    header = request.headers.get("Authorization")
    by_assertion = "client_assertion" in form or "client_assertion_type" in form
    if (header is not None) + by_assertion + ("client_secret" in form) > 1:
        raise InvalidRequestError("A client authenticates by one method only.")
    if header is not None:
        client_id, _secret = basic(request.headers)
        if form.get("client_id", client_id) != client_id:
            raise InvalidRequestError("client_id is not the one of the Authorization header.")
        return "client_secret_basic", client_id
    if by_assertion:
        return "private_key_jwt", form.get("client_id") or _claimed(form.get("client_assertion", ""))
    if "client_secret" in form:
        # RFC 6749 section 2.3.1: not recommended; SMART has client_secret_basic.
        return "client_secret_post", form.get("client_id", "")
    return "none", form.get("client_id", "")


def _claimed(assertion: str) -> str:
    """The client that an assertion says it is of, not verified: for counting and the audit."""
    try:
        body = assertion.split(".")[1]
        found = json.loads(urlsafe_b64decode(body + "=" * (-len(body) % 4))).get("iss")
    except (ValueError, IndexError, AttributeError, RecursionError):
        return ""
    return found if isinstance(found, str) and found.isascii() else ""


def basic(headers: Any) -> tuple[str, str]:
    """client_id and secret of HTTP Basic. RFC 6749 section 2.3.1. Raises: InvalidClientError (401)."""
    scheme, _, text = headers.get("Authorization", "").strip().partition(" ")
    try:
        if scheme.lower() != "basic":
            raise ValueError
        client_id, colon, secret = b64decode(text.strip(), validate=True).decode().partition(":")
        client_id, secret = unquote_plus(client_id, errors="strict"), unquote_plus(secret, errors="strict")
    except ValueError:
        raise _refused("client_secret_basic", "The Authorization header is not HTTP Basic.") from None
    if not colon or not client_id or not secret:
        raise _refused("client_secret_basic", "The Authorization header has no client and secret.")
    return client_id, secret


def _refused(method: str, description: str) -> InvalidClientError:
    """RFC 6749 section 5.2: 401 with a challenge for those who tried the Authorization header."""
    return InvalidClientError(description=description, status_code=401 if method == "client_secret_basic" else 400)


# --- reading requests -------------------------------------------------------------------------------------------------


def read_form(request: Request) -> OAuthRequest:
    """The body of a POST. Raises: InvalidRequestError."""
    if request.mimetype != FORM:
        raise InvalidRequestError(f"The body has to be {FORM}.")
    return OAuthRequest("POST", single(request.form), request.headers, request.remote_addr or "")


def single(values: MultiDict[str, str]) -> dict[str, str]:
    """Parameters by name. Raises: InvalidRequestError for one that is repeated, too long, or no text."""
    found = {}
    for name, all_of_it in values.lists():
        if len(all_of_it) > 1:
            raise InvalidRequestError("A parameter is repeated.")
        if not is_text(all_of_it[0]):
            raise InvalidRequestError("A parameter is too long or no text.")
        found[name] = all_of_it[0]
    return found


def is_text(value: str) -> bool:
    """Whether a value is text of a sensible length; bytes that are not UTF-8 stay percent-encoded and match nothing."""
    return len(value) <= MAX_VALUE and not any(ord(char) < 0x20 for char in value)


def bearer(headers: Any) -> str | None:
    """The token of an Authorization header of that scheme. RFC 6750 section 2.1."""
    scheme, _, token = headers.get("Authorization", "").strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None
