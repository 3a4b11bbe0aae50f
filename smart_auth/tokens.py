"""Access tokens: JWTs of the profile of RFC 9068, bound to a Grant record that is read at every use.

What a token may do is in its record: role, person and launch context are read from there. The token carries its own
`scope`, which a refresh may have narrowed, and the context as SMART clients know it. A signature that was verified is
remembered by the process; whether the grant still holds is asked of the store every time, so a revocation works on the
very next request.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec
from joserfc import jws, jwt
from joserfc.errors import JoseError

from smart_auth.keys import ACCESS_ALG
from smart_auth.records import Account, Client, Grant, Record

if TYPE_CHECKING:
    from smart_auth.context import Auth

TYP: Final = "at+jwt"
"""RFC 9068 section 2.1: no id_token and no assertion passes for an access token."""
MAX_LENGTH: Final = 16_384
REMEMBERED: Final = 4096
"""Tokens whose signature a worker remembers."""
USED_EVERY_S: Final = 300
"""How exactly it is kept when a grant was last used; each use would be a write otherwise."""
REVOKED_MOST: Final = 100
"""Single access tokens of a grant that may be revoked at a time; one more revokes all of it."""


class InvalidToken(Exception):
    """An access token that is malformed, forged, expired, revoked, or of somebody who may not any more."""


@dataclass(frozen=True, slots=True)
class Verified:
    """A valid access token. `grant` is its record as of now, `scopes` what the token itself says."""

    grant: Grant
    scopes: tuple[str, ...]
    claims: dict[str, Any]
    expires_at: int

    @property
    def jti(self) -> str:
        return str(self.claims["jti"])


class _Known:
    """A token whose signature was good, the records it is asked of, and what they made of it the last time."""

    __slots__ = ("asked", "claims", "records", "verified")

    def __init__(self, claims: dict[str, Any]) -> None:
        self.claims = claims
        self.asked = ((Grant, claims["grant"]), (Client, claims["client_id"]), (Account, claims["sub"]))
        self.records: tuple[Record | None, ...] = ()
        self.verified: Verified | None = None


class Tokens:
    """Issues and verifies access tokens."""

    def __init__(self, auth: Auth) -> None:
        self._auth = auth
        self._remembered: OrderedDict[str, _Known] = OrderedDict()

    # --- issuing ------------------------------------------------------------------------------------------------------

    def issue(self, grant: Grant, scope: str | None = None, lifetime_s: int | None = None) -> str:
        """An access token of a grant; `scope` is narrower than the grant's if given."""
        settings, now = self._auth.settings, self._auth.clock()
        expires_at = now + (settings.access_token_lifetime_s if lifetime_s is None else lifetime_s)
        claims: dict[str, Any] = {
            "iss": settings.issuer,
            "aud": settings.base_url,
            "sub": grant.account or grant.client,
            "client_id": grant.client,
            "scope": grant.scope if scope is None else scope,
            "iat": now,
            "exp": expires_at,
            # With the time that it expires, so that a list of revoked ones can be cleared of those that have.
            "jti": f"{expires_at:x}.{secrets.token_urlsafe(16)}",
            "grant": grant.id,
        }
        if grant.patient is not None:
            claims["patient"] = grant.patient
        if grant.encounter is not None:
            claims["encounter"] = grant.encounter
        if grant.fhir_user and grant.account is not None:
            claims["fhirUser"] = f"{settings.base_url}/{grant.fhir_user}"
        return self._auth.keys.sign(claims, ACCESS_ALG, TYP)

    def issue_for(self, account: Account | None, role: str, client: Client, scope: str, patient: str | None) -> str:
        """An access token with a grant of its own, without anybody's consent: for the command line of the operator.

        `account` None: a back-end service, `role` is "system" then.
        """
        now = self._auth.clock()
        link = next((one for one in account.roles if one.role == role), None) if account is not None else None
        grant = Grant(
            id=new_id(),
            client=client.id,
            client_name=client.name,
            account=account.id if account is not None else None,
            name=account.name if account is not None else client.name,
            role=role,
            fhir_user=link.fhir_user if link is not None else None,
            person=account.person if account is not None else None,
            scope=scope,
            patient=patient,
            auth_time=now,
            created_at=now,
            expires_at=now + self._auth.settings.access_token_lifetime_s,
        )
        self._auth.store.insert(grant)
        return self.issue(grant)

    # --- verifying ----------------------------------------------------------------------------------------------------

    def verify(self, token: str) -> Verified:
        """The token, if it is valid now. RFC 9068 section 4. Raises: InvalidToken."""
        known = self._remember(token)
        auth, now, claims = self._auth, self._auth.clock(), known.claims
        if claims["exp"] <= now:
            raise InvalidToken("The access token has expired.")
        records = auth.store.together(*known.asked)
        verified = known.verified
        if verified is None or known.records != records:
            verified = known.verified = self._verified(claims, *records)
            known.records = records
        if now - verified.grant.last_used_at >= USED_EVERY_S:
            auth.store.change(Grant, verified.grant.id, lambda one: msgspec.structs.replace(one, last_used_at=now))
        return verified

    @staticmethod
    def _verified(
        claims: dict[str, Any], grant: Record | None, client: Record | None, account: Record | None
    ) -> Verified:
        """What the records of now make of a token. Raises: InvalidToken."""
        if (
            not isinstance(grant, Grant)
            or grant.revoked_at is not None
            or claims["jti"] in grant.revoked_tokens
            or (grant.client, grant.account or grant.client) != (claims["client_id"], claims["sub"])
        ):
            raise InvalidToken("The access token was revoked.")
        if not isinstance(client, Client) or client.status != "active":
            raise InvalidToken("The client may not use this server.")
        if grant.account is not None and not (isinstance(account, Account) and holds(account, grant.role)):
            raise InvalidToken("The account may not act in this role any more.")
        return Verified(grant, tuple(claims["scope"].split()), claims, claims["exp"])

    def _remember(self, token: str) -> _Known:
        """What is known of a token that we signed for the FHIR endpoint."""
        if len(token) > MAX_LENGTH or not token.isascii():
            raise InvalidToken("The access token is malformed.")
        found = self._remembered.get(token)
        if found is None:
            found = _Known(self._read(token))
            self._remembered[token] = found
            if len(self._remembered) > REMEMBERED:
                self._remembered.popitem(last=False)
        else:
            self._remembered.move_to_end(token)
        return found

    def _read(self, token: str) -> dict[str, Any]:
        settings = self._auth.settings
        try:
            header = jws.extract_compact(token.encode()).headers()
            # RFC 8725 section 3.1 and 3.11: the algorithm and the type are ours to say, not the token's.
            if header.get("alg") != ACCESS_ALG or header.get("typ") != TYP or not isinstance(header.get("kid"), str):
                raise InvalidToken("This is no access token of this server.")
            key = self._auth.keys.public(header["kid"], ACCESS_ALG)
            if key is None:
                raise InvalidToken("The access token is signed with an unknown key.")
            claims = jwt.decode(token, key, algorithms=[ACCESS_ALG]).claims
        except (JoseError, ValueError, TypeError, AttributeError):
            raise InvalidToken("The access token is malformed or forged.") from None
        if claims.get("iss") != settings.issuer or claims.get("aud") != settings.base_url:
            raise InvalidToken("The access token is for another server.")
        return claims

    # --- revoking -----------------------------------------------------------------------------------------------------

    def revoke(self, verified: Verified) -> None:
        """Revokes one access token; the rest of its grant stays."""
        now = self._auth.clock()

        def change(found: Grant) -> Grant:
            kept = tuple(one for one in found.revoked_tokens if int(one.partition(".")[0], 16) > now)
            if len(kept) >= REVOKED_MOST:
                return msgspec.structs.replace(found, revoked_at=now)
            return msgspec.structs.replace(found, revoked_tokens=(*kept, verified.jti))

        self._auth.store.change(Grant, verified.grant.id, change)


def holds(account: Account | None, role: str) -> bool:
    """Whether an account is open and has a role."""
    return account is not None and account.status == "active" and any(link.role == role for link in account.roles)


def new_id() -> str:
    """128 random bits for the id of a grant."""
    return secrets.token_hex(16)


def digest(secret: str) -> str:
    """What is stored of a code, a refresh token or another random text of ours."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
