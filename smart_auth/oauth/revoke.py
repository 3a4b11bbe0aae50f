"""Token revocation, RFC 7009: one access token, or with a refresh token everything that came of the authorization."""

from __future__ import annotations

from typing import Any

from authlib.oauth2.rfc6749 import InvalidRequestError
from authlib.oauth2.rfc7009 import RevocationEndpoint

from smart_auth.oauth.introspect import Held, find
from smart_auth.oauth.server import OAuthRequest
from smart_auth.oauth.token import METHODS
from smart_auth.records import Grant, RefreshToken
from smart_auth.sessions import revoke
from smart_auth.tokens import digest


class Revocation(RevocationEndpoint):
    """200 whether the token was valid or not (section 2.2); a token of another client is refused (section 2.1)."""

    CLIENT_AUTH_METHODS = METHODS

    def check_params(self, request: OAuthRequest, client: Any) -> None:
        """Section 2.1: token is required; a hint may be ignored."""
        if "token" not in request.form:
            raise InvalidRequestError("token is required.")

    def query_token(self, token_string: str, token_type_hint: str | None) -> Held | None:
        """A refresh token that was used already still names its family."""
        auth = self.server.auth
        found = find(auth, token_string)
        if found is not None:
            return found
        refresh = auth.store.get(RefreshToken, digest(token_string))
        grant = auth.store.get(Grant, refresh.grant) if refresh is not None else None
        return Held(grant, refresh.scope, refresh.created_at, 0) if refresh is not None and grant is not None else None

    def revoke_token(self, token: Held, request: OAuthRequest) -> None:
        auth, grant = self.server.auth, token.grant
        if token.verified is not None:
            auth.tokens.revoke(token.verified)
        else:
            revoke(auth, grant)
        self.server.tell(
            "revoke", request.client.record, request.address, account=grant.account, name=grant.name,
            role=grant.role, patient=grant.patient, what="access token" if token.verified else "all tokens",
        )  # fmt: skip
