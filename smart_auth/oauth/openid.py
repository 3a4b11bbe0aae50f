"""Who logged in: id_token and userinfo. OpenID Connect Core 1.0; SMART App Launch 2.2, "Scopes for requesting
identity data".

The id_token is signed RS256, which every client has to support (section 15.1).
"""

from __future__ import annotations

from typing import Any, Final

from authlib.oidc.core.grants import OpenIDToken
from authlib.oidc.core.util import create_half_hash

from smart_auth.context import Auth
from smart_auth.keys import ID_ALG
from smart_auth.oauth.token import Holder
from smart_auth.records import Grant

ONE_FACTOR: Final = "http://idmanagement.gov/ns/assurance/aal/1"
TWO_FACTORS: Final = "http://idmanagement.gov/ns/assurance/aal/2"
"""acr: authentication assurance levels of NIST SP 800-63-3."""


class IdToken(OpenIDToken):
    """Adds an id_token to the response for a code whose grant has `openid`."""

    def __init__(self, auth: Auth) -> None:
        self._auth = auth

    def encode_id_token(self, token: dict[str, Any], request: Any) -> str:
        """Section 2 and 3.1.3.6."""
        auth = self._auth
        holder: Holder = request.user
        grant, code, now = holder.grant, holder.code, auth.clock()
        assert code is not None
        claims: dict[str, Any] = {
            "iss": auth.settings.issuer,
            "aud": grant.client,
            "exp": now + auth.settings.id_token_lifetime_s,
            "iat": now,
            "auth_time": grant.auth_time,
            "acr": TWO_FACTORS if "mfa" in code.amr else ONE_FACTOR,
            "at_hash": create_half_hash(token["access_token"], ID_ALG).decode(),
            **identity(auth, grant, token["scope"]),
        }
        if code.amr:
            claims["amr"] = list(code.amr)
        if code.nonce is not None:
            claims["nonce"] = code.nonce
        return auth.keys.sign(claims, ID_ALG, "JWT")

    def process_token(self, grant: Any, response: Any) -> None:
        """Puts it into the response, if `openid` was granted."""
        _status, token, _headers = response
        if "openid" in token["scope"].split():
            token["id_token"] = self.encode_id_token(token, grant.request)


def identity(auth: Auth, grant: Grant, scope: str) -> dict[str, Any]:
    """sub, and fhirUser for the active role as an absolute URL; `profile` is its older name."""
    words = scope.split()
    found: dict[str, Any] = {"sub": grant.account}
    if grant.fhir_user:
        user = f"{auth.settings.base_url}/{grant.fhir_user}"
        if "fhirUser" in words or "profile" in words:
            found["fhirUser"] = user
        if "profile" in words:
            found["profile"] = user
    if "profile" in words:
        found["name"] = grant.name
    return found
