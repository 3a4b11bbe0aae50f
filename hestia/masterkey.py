"""The master key: from it every other key is derived (sealed fields, audit chains, page tokens of the portal).

It is never in the database, so a copy of the database alone tells no secret. Losing it loses what it seals: keep it
with the backups, not in them.
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
from pathlib import Path
from typing import Final

from hestia.settings import Settings, SettingsError

KEY_BYTES: Final = 32
_FORM: Final = "32 bytes as base64url or hex (make one with: openssl rand -base64 32)"


def parse_keys(text: str, origin: str) -> tuple[bytes, ...]:
    """Keys in a text, comma or line separated; the first one seals. Raises SettingsError, which never shows the
    text.
    """
    keys = []
    for part in text.replace("\n", ",").split(","):
        part = part.strip()
        if part and not part.startswith("#"):
            keys.append(_parse(part, origin))
    if not keys:
        raise SettingsError(f"{origin} holds no key; {_FORM}.")
    return tuple(keys)


def _parse(text: str, origin: str) -> bytes:
    if len(text) == KEY_BYTES * 2:
        try:
            return bytes.fromhex(text)
        except ValueError:
            pass
    try:
        key = base64.urlsafe_b64decode(text.replace("+", "-").replace("/", "_").rstrip("=") + "=")
    except (binascii.Error, ValueError):
        raise SettingsError(f"{origin} is not a key; {_FORM}.") from None
    if len(key) != KEY_BYTES:
        raise SettingsError(f"{origin} is not a key; {_FORM}.")
    return key


def master_keys(settings: Settings, *, create: bool = True) -> tuple[bytes, ...]:
    """The keys of these settings, the sealing one first; in development a file is made where there is none.

    Raises: SettingsError in production without a configured key, and for what is not a key.
    """
    if settings.secret_key:
        return parse_keys(settings.secret_key, "HESTIA_SECRET_KEY")
    if settings.secret_key_file:
        path = Path(settings.secret_key_file)
        try:
            return parse_keys(path.read_text(encoding="ascii"), "HESTIA_SECRET_KEY_FILE")
        except (OSError, UnicodeDecodeError):
            raise SettingsError(f"HESTIA_SECRET_KEY_FILE: {path} cannot be read.") from None
    if settings.production:
        raise SettingsError(f"In production HESTIA_SECRET_KEY_FILE (or HESTIA_SECRET_KEY) has to be set: {_FORM}.")
    path = settings.data / "secret.key"
    if create and not path.exists():
        _make(path)
    try:
        return parse_keys(path.read_text(encoding="ascii"), str(path))
    except FileNotFoundError:
        raise SettingsError(f"There is no master key at {path}; the server makes it at its first start.") from None


def _make(path: Path) -> None:
    """Writes a new key, whole or not at all, readable by its owner only; another process may have been faster."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(descriptor, base64.urlsafe_b64encode(secrets.token_bytes(KEY_BYTES)) + b"\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    try:
        os.link(unfinished, path)
    except FileExistsError:
        pass
    finally:
        unfinished.unlink()
