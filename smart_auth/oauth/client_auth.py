"""Clients that authenticate with a signed assertion: RFC 7523 as SMART App Launch 2.2 profiles it.

client-confidential-asymmetric.html, "Authenticating to the Token endpoint".
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

from authlib.oauth2.rfc6749 import InvalidClientError, InvalidRequestError
from authlib.oauth2.rfc7523 import JWTBearerClientAssertion
from joserfc import jws, jwt
from joserfc.errors import JoseError

from smart_auth.clients import ASSERTION_ALGS, verifier
from smart_auth.discovery import TOKEN
from smart_auth.fetch import FetchFailed
from smart_auth.records import Client, OneTime
from smart_auth.store.protocol import Taken

METHOD: Final = "private_key_jwt"
LIFETIME_S: Final = 300
"""The longest that an assertion may be valid: "no more than five minutes in the future"."""
LEEWAY_S: Final = 30
"""For clocks that differ."""
MAX_LENGTH: Final = 16_384
MAX_JTI: Final = 256


class SignedAssertion(JWTBearerClientAssertion):
    """The method private_key_jwt. Authlib's own pins neither algorithm, type nor lifetime, and knows one clock."""

    CLIENT_AUTH_METHOD = METHOD

    def __init__(self, server: Any) -> None:
        super().__init__(validate_jti=True, leeway=LEEWAY_S)
        self._server = server

    def __call__(self, query_client: Any, request: Any) -> Any:
        """The client that signed the assertion. Raises: InvalidRequestError, InvalidClientError."""
        form = request.form
        if form.get("client_assertion_type") != self.CLIENT_ASSERTION_TYPE:
            raise InvalidRequestError("client_assertion_type has to be the one of RFC 7523.")
        assertion = form.get("client_assertion", "")
        if not 0 < len(assertion) <= MAX_LENGTH or not assertion.isascii():
            raise InvalidClientError(description="The assertion is malformed.")
        header, claims = self.extract_assertion(assertion)
        client_id = claims.get("sub")
        # RFC 7521 section 4.2: client_id is optional, but has to name the same client.
        if not isinstance(client_id, str) or form.get("client_id", client_id) != client_id:
            raise InvalidClientError(description="The assertion is of another client.")
        client = query_client(client_id)
        if client is None or not client.check_endpoint_auth_method(METHOD, "token"):
            raise InvalidClientError(description="The client is not known, or has no keys.")
        kid, alg = self._check_header(header, client.record)
        try:
            jwt.decode(assertion, self._key(client.record, kid, alg), algorithms=[alg])
        except (JoseError, ValueError, TypeError):
            raise InvalidClientError(description="The signature of the assertion is not right.") from None
        self._check_claims(claims, client_id)
        return client

    def extract_assertion(self, assertion: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Header and claims, not yet verified."""
        try:
            header = jws.extract_compact(assertion.encode()).headers()
            found = super().extract_assertion(assertion)[1]
        except (JoseError, ValueError, TypeError, AttributeError, RecursionError):
            raise InvalidClientError(description="The assertion is malformed.") from None
        return dict(header), found

    def _check_header(self, header: dict[str, Any], client: Client) -> tuple[str, str]:
        """kid and alg. "alg: ES384 or RS384; kid; typ: fixed value JWT; jku: the registered address if present"."""
        alg, kid, typ = header.get("alg"), header.get("kid"), header.get("typ")
        if alg not in ASSERTION_ALGS or not isinstance(alg, str):
            raise InvalidClientError(description="The assertion has to be signed with ES384 or RS384.")
        if typ != "JWT" or not isinstance(kid, str) or not kid or "crit" in header:
            raise InvalidClientError(description="The header of the assertion needs typ JWT and a kid.")
        if "jku" in header and header["jku"] != client.jwks_uri:
            raise InvalidClientError(description="The jku of the assertion is not registered.")
        return kid, alg

    def _key(self, client: Client, kid: str, alg: str) -> Any:
        keys = client.jwks
        if client.jwks_uri is not None:
            try:
                keys = self._server.key_sets.get(client.jwks_uri, kid)
            except FetchFailed:
                raise InvalidClientError(description="The keys of the client cannot be fetched.") from None
        candidates = [key for key in (keys or {}).get("keys", []) if key.get("kid") == kid]
        key = next((found for one in candidates if (found := verifier(one, alg)) is not None), None)
        if key is None:
            raise InvalidClientError(description="The client has no key of this kid and algorithm.")
        return key

    def _check_claims(self, claims: dict[str, Any], client_id: str) -> None:
        auth = self._server.auth
        now, issuer = auth.clock(), auth.settings.issuer
        if claims.get("iss") != client_id:
            raise InvalidClientError(description="iss and sub of the assertion have to be the client_id.")
        audience = claims.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        if not {issuer + TOKEN, issuer} & {one for one in audiences if isinstance(one, str)}:
            raise InvalidClientError(description="The audience of the assertion has to be the token endpoint.")
        expires_at: Any = claims.get("exp")
        if not _is_time(expires_at) or expires_at <= now - LEEWAY_S:
            raise InvalidClientError(description="The assertion has expired, or does not say when it does.")
        if expires_at > now + LIFETIME_S + LEEWAY_S:
            raise InvalidClientError(description="The assertion is valid for more than five minutes.")
        for name in ("iat", "nbf"):
            if name in claims and not (_is_time(claims[name]) and claims[name] <= now + LEEWAY_S):
                raise InvalidClientError(description="The assertion is not valid yet.")
        jti = claims.get("jti")
        if not isinstance(jti, str) or not 0 < len(jti) <= MAX_JTI:
            raise InvalidClientError(description="The assertion needs a jti.")
        used = hashlib.sha256(f"{client_id}\0{jti}".encode("utf-8", "surrogatepass")).hexdigest()
        try:
            # Kept for as long as the assertion would be taken.
            auth.store.insert(OneTime(id=f"jti|{used}", created_at=now, expires_at=int(expires_at) + LEEWAY_S + 1))
        except Taken:
            raise InvalidClientError(description="The jti of the assertion was used before.") from None


def _is_time(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 2**53
