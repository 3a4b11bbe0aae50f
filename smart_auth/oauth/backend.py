"""Back-end services: client credentials with a signed assertion. SMART App Launch 2.2, backend-services.html."""

from __future__ import annotations

from typing import Any, Final

from authlib.oauth2.rfc6749 import InvalidScopeError
from authlib.oauth2.rfc6749.grants import ClientCredentialsGrant

from smart_auth import scopes
from smart_auth.context import Auth
from smart_auth.oauth.token import GRANT_KEPT_S, Holder
from smart_auth.records import Client, Grant
from smart_auth.tokens import new_id


class BackendGrant(ClientCredentialsGrant):
    """Only with private_key_jwt, only `system/` scopes, no refresh token."""

    TOKEN_ENDPOINT_AUTH_METHODS: Final = ["private_key_jwt"]

    def validate_requested_scope(self) -> None:
        """Leaves what was asked, is registered, and is of the system. Raises: InvalidScopeError when nothing is."""
        client: Client = self.request.client.record
        asked = [
            one
            for one in scopes.parse(self.request.payload.scope or "")
            if isinstance(one, scopes.ResourceScope) and one.context == "system"
        ]
        granted = scopes.intersect(asked, scopes.parse(client.scope))
        if not granted:
            raise InvalidScopeError("None of the requested scopes can be granted to this client.")
        self.request.scope = scopes.render(granted)

    def create_token_response(self) -> tuple[int, dict[str, Any], Any]:
        """An access token with a grant of its own."""
        auth: Auth = self.server.auth
        client: Client = self.request.client.record
        now, lifetime_s = auth.clock(), auth.settings.access_token_lifetime_s
        grant = Grant(
            id=new_id(),
            client=client.id,
            client_name=client.name,
            name=client.name,
            role="system",
            scope=self.request.scope,
            auth_time=now,
            created_at=now,
            expires_at=now + lifetime_s + GRANT_KEPT_S,
        )
        auth.store.insert(grant)
        holder = Holder(grant, self.request.address)
        token = self.generate_token(holder, grant.scope, expires_in=lifetime_s, include_refresh_token=False)
        return 200, token, self.TOKEN_RESPONSE_HEADER
