"""The keys that tokens are signed with: made once, sealed by the vault, changed from time to time, published as JWKS.

RFC 7517. A key is `next` (published for a day before its first use, so that whoever caches the set knows it), `active`
(signs), then `retired` (published until the last token that it signed has expired). Access tokens are signed ES256,
id_tokens RS256, which every OpenID Connect client has to support (Core 1.0 section 15.1).

The keys of an algorithm are numbered, and the number is the record's id: of several workers that want to make the same
one the store lets exactly one.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import msgspec
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from smart_auth.records import Key
from smart_auth.store.protocol import Taken

if TYPE_CHECKING:
    from smart_auth.context import Auth

ACCESS_ALG: Final = "ES256"
ID_ALG: Final = "RS256"
ALGORITHMS: Final = (ACCESS_ALG, ID_ALG)

PURPOSE: Final = "signing-key"
RSA_BITS: Final = 2048
PUBLISH_AHEAD_S: Final = 86_400
"""How long a key is published before it signs."""
RELOAD_S: Final = 60
"""How long a worker goes without looking whether another one changed the keys."""
KEPT_AFTER_S: Final = 3600
"""How much longer than the longest token a retired key is published, for clocks that are behind."""

Jwk = ECKey | RSAKey


class Keys:
    """The signing keys of one authorization server, as one worker knows them."""

    def __init__(self, auth: Auth) -> None:
        self._auth = auth
        self._records: dict[str, Key] = {}
        self._private: dict[str, Jwk] = {}
        self._public: dict[str, Jwk] = {}
        self._loaded_at: int | None = None

    def sign(self, claims: dict[str, Any], alg: str, typ: str) -> str:
        """A JWT in compact form, signed with the active key of an algorithm; `typ` is its header."""
        key = self._active(alg)
        header = {"alg": alg, "typ": typ, "kid": key.kid}
        return jwt.encode(header, claims, key, [alg])

    def public(self, kid: str, alg: str) -> Jwk | None:
        """The public key of a kid, if it is of this algorithm; another worker may have made it just now."""
        found = self._public.get(kid)
        if found is None or self._stale():
            self._load()
            found = self._public.get(kid)
        return found if found is not None and found.alg == alg else None

    def jwks(self) -> dict[str, Any]:
        """Every key that a valid token may be signed with, and those to come. RFC 7517 section 5."""
        for alg in ALGORITHMS:
            self._active(alg)
        now = self._auth.clock()
        shown = [one for one in self._records.values() if one.expires_at is None or one.expires_at > now]
        return {"keys": [one.public for one in sorted(shown, key=lambda one: (one.alg, _number(one)))]}

    def rotate(self) -> None:
        """Lets the next key of each algorithm sign from now on, whatever its age."""
        for alg in ALGORITHMS:
            self._active(alg)
            signing = self._signing(alg)
            if all(_number(one) <= _number(signing) for one in self._of(alg)):
                self._make(alg, _number(signing) + 1, "next")
                self._load()
            self._promote(next(one for one in self._of(alg) if _number(one) > _number(signing)), signing)
        self._load()

    # ------------------------------------------------------------------------------------------------------------------

    def _active(self, alg: str) -> Jwk:
        if self._stale():
            self._load()
        now, rotation_s = self._auth.clock(), self._auth.settings.key_rotation_s
        ours = self._of(alg)
        if not ours:
            self._make(alg, 1, "active")
            self._load()
            ours = self._of(alg)
        signing = self._signing(alg)
        age_s = now - signing.status_since
        following = next((one for one in ours if _number(one) > _number(signing)), None)
        if following is None and age_s >= rotation_s - PUBLISH_AHEAD_S:
            self._make(alg, _number(signing) + 1, "next")
            self._load()
        elif following is not None and age_s >= rotation_s and now - following.status_since >= PUBLISH_AHEAD_S:
            self._promote(following, signing)
            self._load()
            signing = next(one for one in self._of(alg) if one.id == following.id)
        kid = signing.public["kid"]
        if kid not in self._private:
            key = json.loads(self._auth.vault.unseal(signing.private, PURPOSE))
            self._private[kid] = _import(key)
        return self._private[kid]

    def _signing(self, alg: str) -> Key:
        ours = self._of(alg)
        return next((one for one in reversed(ours) if one.status == "active"), ours[-1])

    def _make(self, alg: str, number: int, status: str) -> None:
        about: Any = {"use": "sig", "alg": alg}
        key: Jwk = ECKey.generate_key("P-256", about) if alg == ACCESS_ALG else RSAKey.generate_key(RSA_BITS, about)
        key.ensure_kid()
        now = self._auth.clock()
        record = Key(
            id=f"{alg}-{number:06}",
            alg=alg,
            public=dict(key.as_dict(private=False)),
            private=self._auth.vault.seal(json.dumps(key.as_dict(private=True)), PURPOSE),
            status=status,
            status_since=now,
            created_at=now,
        )
        try:
            self._auth.store.insert(record)
        except Taken:
            pass  # Another worker was faster; its key is the one.

    def _promote(self, following: Key, signing: Key) -> None:
        """The new key signs first and the old one retires then, so that there is one at every moment."""
        now, settings = self._auth.clock(), self._auth.settings
        until = now + max(settings.access_token_lifetime_s, settings.id_token_lifetime_s) + KEPT_AFTER_S

        def promote(found: Key) -> Key | None:
            return msgspec.structs.replace(found, status="active", status_since=now) if found.status == "next" else None

        def retire(found: Key) -> Key | None:
            if found.status != "active":
                return None
            return msgspec.structs.replace(found, status="retired", status_since=now, expires_at=until)

        self._auth.store.change(Key, following.id, promote)
        self._auth.store.change(Key, signing.id, retire)

    def _of(self, alg: str) -> list[Key]:
        return sorted((one for one in self._records.values() if one.alg == alg), key=_number)

    def _stale(self) -> bool:
        return self._loaded_at is None or self._auth.clock() - self._loaded_at >= RELOAD_S

    def _load(self) -> None:
        found = [one for status in ("next", "active", "retired") for one in self._auth.store.find(Key, status=status)]
        self._records = {one.id: one for one in found}
        known = {one.public["kid"]: one for one in found}
        self._public = {kid: self._public.get(kid) or _import(one.public) for kid, one in known.items()}
        self._private = {kid: key for kid, key in self._private.items() if kid in known}
        self._loaded_at = self._auth.clock()


def _number(key: Key) -> int:
    return int(key.id.rpartition("-")[2])


def _import(key: dict[str, Any]) -> Jwk:
    return ECKey.import_key(key) if key["kty"] == "EC" else RSAKey.import_key(key)
