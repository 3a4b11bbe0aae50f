"""Encryption of what must not be readable in the database: a copy of the database without the key tells nothing of it.

From each master key two keys are derived (HKDF-SHA256, RFC 5869): one for AES-256-GCM with random nonces, one for
AES-SIV (RFC 5297), whose result depends on the text alone and so can be unique and found. The purpose is authenticated
with the text, so a sealed phone number cannot be put where a sealed secret is expected.

A sealed text is ``<form>.<key id>.<base64url>``. With several master keys the first seals, all unseal.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
from collections.abc import Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12

_RANDOM: Final = "g"
_EXACT: Final = "s"


class KeyVault:
    """See context.Vault. `keys`: master keys of 32 bytes, the sealing one first."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys or any(len(key) != KEY_BYTES for key in keys):
            raise ValueError(f"A vault needs master keys of {KEY_BYTES} bytes.")
        self._random = {key_id(key): AESGCM(_derive(key, b"seal")) for key in keys}
        self._exact = {key_id(key): AESSIV(_derive(key, b"seal exact", 64)) for key in keys}
        self._current = key_id(keys[0])
        self._digest_key = _derive(keys[0], b"digest")

    def seal(self, text: str, purpose: str) -> str:
        """See Vault.seal."""
        nonce = os.urandom(NONCE_BYTES)
        sealed = nonce + self._random[self._current].encrypt(nonce, text.encode(), purpose.encode())
        return f"{_RANDOM}.{self._current}.{_text(sealed)}"

    def seal_exact(self, text: str, purpose: str) -> str:
        """See Vault.seal_exact."""
        # RFC 5297 encrypts nothing but the empty text to a bare tag, which the library refuses: one byte goes in front.
        sealed = self._exact[self._current].encrypt(b"\0" + text.encode(), [purpose.encode()])
        return f"{_EXACT}.{self._current}.{_text(sealed)}"

    def exact_forms(self, text: str, purpose: str) -> list[str]:
        """See Vault.exact_forms."""
        data, associated = b"\0" + text.encode(), [purpose.encode()]
        return [f"{_EXACT}.{key}.{_text(cipher.encrypt(data, associated))}" for key, cipher in self._exact.items()]

    def unseal(self, sealed: str, purpose: str) -> str:
        """See Vault.unseal."""
        try:
            form, key, body = sealed.split(".")
            data = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
            if form == _RANDOM:
                cipher = self._random[key]
                return cipher.decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], purpose.encode()).decode()
            if form == _EXACT:
                return self._exact[key].decrypt(data, [purpose.encode()])[1:].decode()
        except (ValueError, KeyError, InvalidTag, binascii.Error):
            pass
        raise ValueError("This was sealed with another key or for another purpose, or was changed.")

    def again(self, sealed: str, purpose: str) -> str:
        """The same text sealed in the same form under the current key; itself when it is. Raises ValueError."""
        if self.is_current(sealed):
            return sealed
        text = self.unseal(sealed, purpose)
        return self.seal_exact(text, purpose) if sealed.startswith(f"{_EXACT}.") else self.seal(text, purpose)

    def is_current(self, sealed: str) -> bool:
        """See Vault.is_current."""
        return sealed.split(".")[1:2] == [self._current]

    def digest(self, text: str, purpose: str) -> str:
        """See Vault.digest. HMAC-SHA256 under the current key: for what lives shortly."""
        return _text(hmac.digest(self._digest_key, purpose.encode() + b"\0" + text.encode(), "sha256"))


def sealed_with(sealed: str) -> str:
    """The id of the key that sealed a text."""
    return sealed.split(".")[1]


def key_id(key: bytes) -> str:
    """A short public name of a master key."""
    return hashlib.sha256(b"hestia key id\0" + _derive(key, b"id")).hexdigest()[:8]


def _derive(key: bytes, use: bytes, length: int = 32) -> bytes:
    return HKDF(algorithm=SHA256(), length=length, salt=None, info=b"hestia accounts: " + use).derive(key)


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
