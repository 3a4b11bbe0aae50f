"""Token introspection, RFC 7662, with the fields that SMART App Launch 2.2 adds (token-introspection.html)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from authlib.oauth2.rfc6749 import InvalidClientError, InvalidRequestError, OAuth2Error
from authlib.oauth2.rfc7662 import IntrospectionEndpoint

from smart_auth.context import Auth
from smart_auth.oauth.server import OAuthRequest, bearer
from smart_auth.oauth.token import launch_context
from smart_auth.records import Account, Client, Grant, RefreshToken
from smart_auth.tokens import InvalidToken, Verified, digest, holds


class InvalidBearerToken(OAuth2Error):
    """The access token in the Authorization header is not good. RFC 6750 section 3.1."""

    error = "invalid_token"
    description = "The access token is not valid."
    status_code = 401

    def get_headers(self) -> list[tuple[str, str]]:
        headers: list[tuple[str, str]] = super().get_headers()
        return [*headers, ("WWW-Authenticate", 'Bearer error="invalid_token"')]


@dataclass(frozen=True, slots=True)
class Held:
    """An access or refresh token that is valid now."""

    grant: Grant
    scope: str
    issued_at: int
    expires_at: int
    verified: Verified | None = None
    """Of an access token."""

    def check_client(self, client: Any) -> bool:
        return bool(self.grant.client == client.record.id)

    def is_expired(self) -> bool:
        return False

    def is_revoked(self) -> bool:
        return False


def find(auth: Auth, token: str) -> Held | None:
    """The access or refresh token of a text, if it is valid; the two cannot be mistaken, so no hint is needed."""
    try:
        verified = auth.tokens.verify(token)
    except InvalidToken:
        pass
    else:
        return Held(verified.grant, " ".join(verified.scopes), verified.claims["iat"], verified.expires_at, verified)
    refresh = auth.store.get(RefreshToken, digest(token))
    grant = auth.store.get(Grant, refresh.grant) if refresh is not None else None
    if refresh is None or refresh.used_at is not None or grant is None or grant.revoked_at is not None:
        return None
    client = auth.store.get(Client, grant.client)
    account = auth.store.get(Account, grant.account) if grant.account is not None else None
    if client is None or client.status != "active" or not holds(account, grant.role):
        return None
    if grant.session is not None and not auth.accounts.sessions.alive(grant.session):
        return None
    return Held(grant, refresh.scope, refresh.created_at, refresh.expires_at or 0)


class Introspection(IntrospectionEndpoint):
    """For confidential clients, and for holders of a token: about that token, an administrator about any."""

    CLIENT_AUTH_METHODS: Final = ["client_secret_basic", "private_key_jwt"]

    def authenticate_endpoint_client(self, request: OAuthRequest) -> Any:
        """A client, or the Verified token of the caller. Raises: InvalidClientError, InvalidBearerToken."""
        token = bearer(request.headers)
        if token is None:
            try:
                return super().authenticate_endpoint_client(request)
            except InvalidClientError as error:
                error.status_code = 401  # section 2.3, whatever method was tried
                raise
        try:
            return self.server.auth.tokens.verify(token)
        except InvalidToken:
            raise InvalidBearerToken() from None

    def check_params(self, request: OAuthRequest, client: Any) -> None:
        """Section 2.1: token is required; a hint may be ignored."""
        if "token" not in request.form:
            raise InvalidRequestError("token is required.")

    def query_token(self, token_string: str, token_type_hint: str | None) -> Held | None:
        return find(self.server.auth, token_string)

    def check_permission(self, token: Held, client: Any, request: OAuthRequest) -> bool:
        """Section 4: a caller who only has a token learns of that one, unless he or she administrates."""
        if not isinstance(client, Verified) or client.grant.role == "administrator":
            return True
        return token.verified is not None and token.verified.jti == client.jti

    def authenticate_token(self, request: OAuthRequest, client: Any) -> Held | None:
        """Section 2.2, last paragraph: None for what is not valid, or not the caller's to ask about."""
        token: Held | None = super().authenticate_token(request, client)
        about = {"active": "false"} if token is None else {"active": "true", "grant": token.grant.id}
        if isinstance(client, Verified):
            who, asking = client.grant, self.server.clients.get(client.grant.client)
            self.server.tell(
                "introspect", asking, request.address, account=who.account, name=who.name or None, role=who.role,
                fhir_user=who.fhir_user, **about,
            )  # fmt: skip
        else:
            self.server.tell("introspect", client.record, request.address, role="system", **about)
        return token

    def introspect_token(self, token: Held) -> dict[str, Any]:
        """Section 2.2; token-introspection.html, "Required fields" and "Conditional fields"."""
        grant, settings = token.grant, self.server.auth.settings
        found: dict[str, Any] = {
            "active": True,
            "scope": token.scope,
            "client_id": grant.client,
            "iss": settings.issuer,
            "sub": grant.account or grant.client,
            "iat": token.issued_at,
            "exp": token.expires_at,
        }
        if token.verified is not None:
            found |= {"token_type": "Bearer", "aud": settings.base_url, "jti": token.verified.jti}
        if grant.fhir_user and not {"fhirUser", "profile"}.isdisjoint(token.scope.split()):
            found["fhirUser"] = f"{settings.base_url}/{grant.fhir_user}"
        return {**launch_context(grant), **found}
