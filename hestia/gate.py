"""From an access token to a Policy: what the FHIR endpoint asks of the authorization server on each request.

The token's signature may be remembered; its records are read every time, so that a revocation works on the very next
request.
"""

from __future__ import annotations

from typing import Final

from fhir_server.access.caller import Caller
from fhir_server.access.compile import compile_policy
from fhir_server.access.grant import Grant
from fhir_server.access.policies import RolePolicy
from fhir_server.access.relations import Snapshot, relations_of
from fhir_server.authorize import Policy
from fhir_server.context import Server
from fhir_server.errors import Unauthorized
from hestia.policies import Policies
from smart_auth.context import Auth
from smart_auth.tokens import InvalidToken, Verified

PURPOSES: Final = {"patient": "PATRQT", "administrator": "HOPERAT", "system": "HOPERAT"}
"""v3-PurposeOfUse by role; care is what the others are for."""

REMEMBERED: Final = 4096
"""Tokens of which a worker keeps what the FHIR side reads, for as long as their records stay the same."""


class _Entered:
    """What was made of a token, and of what."""

    __slots__ = ("caller", "grant", "role", "snapshot", "verified")

    def __init__(self, verified: Verified) -> None:
        self.verified = verified
        self.grant = as_grant(verified)
        self.role: RolePolicy | None = None
        self.snapshot: Snapshot | None = None
        self.caller: Caller | None = None


class TokenGate:
    """See fhir_server.rest.bearer.Gate. One per worker."""

    def __init__(self, auth: Auth) -> None:
        self._auth = auth
        self._policies = Policies(auth.store)
        self._entered: dict[str, _Entered] = {}

    def enter(self, server: Server, token: str, address: str) -> Caller:
        """Who calls, and what he or she may do. Raises Unauthorized (401)."""
        try:
            verified = self._auth.tokens.verify(token)
        except InvalidToken as error:
            raise Unauthorized(str(error), token_error="invalid_token") from None  # noqa: S106 - an error code
        known = self._entered.get(token)
        if known is None or known.verified is not verified:
            known = _Entered(verified)
            if len(self._entered) >= REMEMBERED:
                self._entered.clear()
            self._entered[token] = known
        grant, current = known.grant, self._policies.current
        role, snapshot = current(grant.role), relations_of(server).snapshot(grant)
        if known.caller is not None and known.role is role and known.snapshot is snapshot and not role.moments:
            return known.caller

        def refresh() -> Policy:
            return compile_policy(server, grant, current, server.clock(), fresh=True)

        made = Caller(compile_policy(server, grant, current, server.clock()), grant, refresh)
        known.caller, known.role, known.snapshot = made, role, snapshot
        return made


def as_grant(verified: Verified) -> Grant:
    """The Grant of the authorization server as the FHIR side reads it."""
    record = verified.grant
    return Grant(
        id=record.id,
        client_id=record.client,
        client_name=record.client_name,
        role=record.role,
        scopes=tuple(verified.scopes),
        account=record.account,
        name=record.name,
        fhir_user=record.fhir_user,
        person=record.person,
        patient=record.patient,
        encounter=record.encounter,
        purpose=PURPOSES.get(record.role, "TREAT"),
        expires_at=verified.expires_at,
    )
