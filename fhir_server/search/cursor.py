"""Page tokens: encrypted and authenticated keyset positions. R4 search.html#paging: `next` is opaque.

A position holds sort values, which are patient data; so it is sealed with AES-GCM (a random nonce per token), and bound
to the search that it belongs to. Every worker of a store opens what any of them sealed: the key is kept in the store.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import time
from typing import Any, Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fhir_server.errors import BadRequest, Gone

KEY_BYTES: Final = 32
LIFETIME_S: Final = 24 * 3600
"""A token older than this is 410."""

_VERSION: Final = b"\x01"
_NONCE_BYTES: Final = 12
_BLOCK: Final = 256


def new_key() -> bytes:
    """A key for a new store."""
    return os.urandom(KEY_BYTES)


def digest(*parts: Any) -> bytes:
    """What a token is bound to: a digest of the search (path, parameters as applied, who asks). 16 bytes."""
    return hashlib.sha256(msgspec.json.encode(parts)).digest()[:16]


def seal(key: bytes, payload: Any, context: bytes = b"", *, now_s: float | None = None) -> str:
    """A token for `payload` (JSON values, tuples included) that `open` accepts with the same key and context.

    Shape: URL-safe base64 without padding; nothing of the payload can be read from it. Its length is in steps, since a
    position may be that of a resource whose id is not shown.
    """
    made = int(time.time() if now_s is None else now_s)
    text = msgspec.json.encode((made, payload))
    text += b" " * (-len(text) % _BLOCK)
    nonce = os.urandom(_NONCE_BYTES)
    sealed = AESGCM(key).encrypt(nonce, text, _VERSION + context)
    return base64.urlsafe_b64encode(_VERSION + nonce + sealed).rstrip(b"=").decode("ascii")


def open(
    key: bytes, token: str, context: bytes = b"", *, now_s: float | None = None, lifetime_s: int = LIFETIME_S
) -> Any:
    """The payload of a token; lists where tuples were sealed.

    Raises: BadRequest for what never was a token, Gone for one that has expired, that another store sealed, or that
    belongs to another search.
    """
    try:
        raw = base64.b64decode(token.encode("ascii") + b"=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        raise BadRequest("The page token is malformed.", code="value") from None
    if len(raw) < 1 + _NONCE_BYTES + 16 or raw[:1] != _VERSION:
        raise BadRequest("The page token is malformed.", code="value")
    nonce, sealed = raw[1 : 1 + _NONCE_BYTES], raw[1 + _NONCE_BYTES :]
    try:
        text = AESGCM(key).decrypt(nonce, sealed, _VERSION + context)
    except InvalidTag:
        raise Gone("The page is no longer available; start the search again.", code="expired") from None
    made, payload = msgspec.json.decode(text)
    if (time.time() if now_s is None else now_s) - made > lifetime_s:
        raise Gone("The page has expired; start the search again.", code="expired")
    return payload
