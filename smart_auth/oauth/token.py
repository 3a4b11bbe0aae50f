"""The token endpoint: authorization codes and refresh tokens. RFC 6749 sections 4.1.3 and 6, RFC 9700 section 4.14.

A grant is the family of all tokens that came of one authorization. A code or refresh token works once; presented again
it revokes the family, whoever presents it.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from authlib.oauth2.rfc6749 import InvalidGrantError, InvalidScopeError
from authlib.oauth2.rfc6749.grants import AuthorizationCodeGrant, RefreshTokenGrant

from smart_auth import scopes
from smart_auth.context import Auth
from smart_auth.records import Account, Client, Code, Grant, RefreshToken
from smart_auth.sessions import revoke
from smart_auth.tokens import digest, holds

METHODS: Final = ["none", "client_secret_basic", "private_key_jwt"]
CODE_KEPT_S: Final = 86_400
"""A used code is remembered for at least a day, or for as long as what came of it."""
GRANT_KEPT_S: Final = 60
"""How much longer than its last token a grant is kept."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Whose tokens are issued to which network address: what Authlib calls the user. `code`: that was exchanged."""

    grant: Grant
    address: str
    code: Code | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person decided at the authorization endpoint: a grant to be stored, and what its code has to know."""

    grant: Grant
    amr: tuple[str, ...]


class StoredCode:
    """A Code record as Authlib asks it."""

    def __init__(self, record: Code) -> None:
        self.record = record
        self.code_challenge = record.code_challenge

    def get_redirect_uri(self) -> str:
        return self.record.redirect_uri

    def get_scope(self) -> str:
        return self.record.scope


class CodeGrant(AuthorizationCodeGrant):
    """Issues codes and exchanges them."""

    TOKEN_ENDPOINT_AUTH_METHODS = METHODS

    def generate_authorization_code(self) -> str:
        """256 random bits."""
        return secrets.token_urlsafe(32)

    def save_authorization_code(self, code: str, request: Any) -> None:
        """Stores the grant of a Decision with its code, of which the store knows the hash."""
        auth: Auth = self.server.auth
        decision: Decision = request.user
        data, now = request.payload.data, auth.clock()
        auth.store.insert(decision.grant)
        auth.store.insert(
            Code(
                id=digest(code),
                grant=decision.grant.id,
                client=decision.grant.client,
                redirect_uri=data["redirect_uri"],
                code_challenge=data["code_challenge"],
                scope=decision.grant.scope,
                valid_until=now + auth.settings.code_lifetime_s,
                nonce=data.get("nonce"),
                amr=decision.amr,
                created_at=now,
                expires_at=now + CODE_KEPT_S,
            )
        )

    def query_authorization_code(self, code: str, client: Any) -> StoredCode | None:
        """The code, if it is this client's and can still be used; a used one kills its family."""
        auth: Auth = self.server.auth
        found = auth.store.get(Code, digest(code))
        if found is not None and found.used_at is not None:
            _kill(self.server, found.grant, self.request.address, "code-replay")
        if found is None or found.client != client.record.id or found.used_at is not None:
            return None
        return StoredCode(found) if auth.clock() < found.valid_until else None

    def authenticate_user(self, authorization_code: StoredCode) -> Holder:
        """Uses up the code; of two requests at the same time one gets it, and the other ends what that one got."""
        auth: Auth = self.server.auth
        record, now = authorization_code.record, self.server.auth.clock()
        lasts_s = max(CODE_KEPT_S, auth.settings.refresh_token_lifetime_s)

        def use(found: Code) -> Code | None:
            if found.used_at is not None:
                return None
            return msgspec.structs.replace(found, used_at=now, expires_at=now + lasts_s)

        if auth.store.change(Code, record.id, use) is None:
            _kill(self.server, record.grant, self.request.address, "code-replay")
            raise InvalidGrantError("The code was used before.")
        grant = _living(self.server, record.grant)
        return Holder(grant, self.request.address, record)

    def delete_authorization_code(self, authorization_code: StoredCode) -> None:
        """It is kept, so that a replay is noticed."""


class StoredRefreshToken:
    """A RefreshToken record as Authlib asks it."""

    def __init__(self, record: RefreshToken) -> None:
        self.record = record

    def check_client(self, client: Any) -> bool:
        return bool(self.record.client == client.record.id)

    def get_scope(self) -> str:
        return self.record.scope


class RotatingRefreshGrant(RefreshTokenGrant):
    """A new refresh token each time, and the old one never again. RFC 9700 section 4.14.2."""

    TOKEN_ENDPOINT_AUTH_METHODS = METHODS
    INCLUDE_NEW_REFRESH_TOKEN = True

    def authenticate_refresh_token(self, refresh_token: str) -> StoredRefreshToken:
        """The refresh token, if it was not used; a used one kills its family. Raises: InvalidGrantError."""
        found = self.server.auth.store.get(RefreshToken, digest(refresh_token))
        if found is not None and found.used_at is not None:
            _kill(self.server, found.grant, self.request.address, "refresh-replay")
        if found is None or found.used_at is not None or found.client != self.request.client.record.id:
            raise InvalidGrantError("The refresh token is not known, of another client, expired, or was used before.")
        return StoredRefreshToken(found)

    def _validate_token_scope(self, token: StoredRefreshToken) -> None:
        """RFC 6749 section 6: nothing that was not granted originally. A part of a granted scope is a narrower one."""
        asked = self.request.payload.scope
        if not asked:
            return
        granted = scopes.parse(token.get_scope())
        if scopes.invalid(asked) or not all(scopes.covers(granted, one) for one in scopes.parse(asked)):
            raise InvalidScopeError()

    def authenticate_user(self, refresh_token: StoredRefreshToken) -> Holder:
        """Checks that the grant still holds, and uses up the token."""
        auth: Auth = self.server.auth
        record, now = refresh_token.record, self.server.auth.clock()
        grant = _living(self.server, record.grant)

        def use(found: RefreshToken) -> RefreshToken | None:
            return None if found.used_at is not None else msgspec.structs.replace(found, used_at=now)

        if auth.store.change(RefreshToken, record.id, use) is None:
            _kill(self.server, record.grant, self.request.address, "refresh-replay")
            raise InvalidGrantError("The refresh token was used before.")
        return Holder(grant, self.request.address)

    def revoke_old_credential(self, refresh_token: StoredRefreshToken) -> None:
        """`authenticate_user` has used it up."""


def _kill(server: Any, grant_id: str, address: str, why: str) -> None:
    auth: Auth = server.auth
    grant = auth.store.get(Grant, grant_id)
    if grant is None:
        return
    revoke(auth, grant)
    server.tell(
        "revoke", auth.store.get(Client, grant.client), address, outcome=8,
        account=grant.account, name=grant.name, role=grant.role, patient=grant.patient, why=why,
    )  # fmt: skip


def _living(server: Any, grant_id: str) -> Grant:
    """The grant, if everything that it rests on still holds. Raises: InvalidGrantError."""
    auth: Auth = server.auth
    grant = auth.store.get(Grant, grant_id)
    if grant is None or grant.revoked_at is not None:
        raise InvalidGrantError("The grant was revoked.")
    account = auth.store.get(Account, grant.account) if grant.account is not None else None
    if not holds(account, grant.role):
        raise InvalidGrantError("The account may not act in this role any more.")
    assert account is not None
    if grant.session is not None and not auth.accounts.sessions.alive(grant.session):
        revoke(auth, grant)
        raise InvalidGrantError("The session has ended.")
    if grant.role == "patient" and grant.patient is not None:
        own = next(link.fhir_user for link in account.roles if link.role == grant.role)
        if all(one.patient != grant.patient for one in auth.directory.treated(account.person, own)):
            revoke(auth, grant)
            raise InvalidGrantError("The person may not act for this patient any more.")
    return grant


# --- what is issued ---------------------------------------------------------------------------------------------------


class Issuer:
    """Authlib's token generator: the token response of RFC 6749 section 5.1 with SMART's launch context."""

    def __init__(self, server: Any) -> None:
        self._server = server

    def __call__(
        self,
        grant_type: str,
        client: Any,
        user: Holder,
        scope: str,
        expires_in: int | None = None,
        include_refresh_token: bool = True,
    ) -> dict[str, Any]:
        auth: Auth = self._server.auth
        grant, settings, now = user.grant, auth.settings, auth.clock()
        words = grant.scope.split()
        lasting = include_refresh_token and not {"offline_access", "online_access"}.isdisjoint(words)
        lifetime_s = settings.access_token_lifetime_s if expires_in is None else expires_in
        token: dict[str, Any] = {
            "access_token": auth.tokens.issue(grant, scope, lifetime_s),
            "token_type": "Bearer",
            "expires_in": lifetime_s,
            "scope": scope,
            **launch_context(grant),
        }
        kept_s = max(lifetime_s, settings.refresh_token_lifetime_s if lasting else 0) + GRANT_KEPT_S
        auth.store.change(
            Grant, grant.id, lambda one: msgspec.structs.replace(one, last_used_at=now, expires_at=now + kept_s)
        )
        if lasting:
            token["refresh_token"] = self._refresh_token(grant)
        self._server.tell(
            "token", client.record, user.address, account=grant.account, name=grant.name, role=grant.role,
            fhir_user=grant.fhir_user, patient=grant.patient, grant_type=grant_type, scope=scope,
        )  # fmt: skip
        return token

    def _refresh_token(self, grant: Grant) -> str:
        auth: Auth = self._server.auth
        secret, now = secrets.token_urlsafe(32), auth.clock()
        auth.store.insert(
            RefreshToken(
                id=digest(secret),
                grant=grant.id,
                client=grant.client,
                # RFC 6749 section 6: identical to that of the one before, whatever this access token was narrowed to.
                scope=grant.scope,
                created_at=now,
                expires_at=now + auth.settings.refresh_token_lifetime_s,
            )
        )
        return secret


def launch_context(grant: Grant) -> dict[str, Any]:
    """scopes-and-launch-context.html, "Launch context arrives with your access_token"."""
    found: dict[str, Any] = {}
    if grant.patient is not None:
        found["patient"] = grant.patient
    if grant.encounter is not None:
        found["encounter"] = grant.encounter
    return {**found, **grant.context}
