"""Settings: one table, the same names as environment variables, in a file and (lower case, dashes) as flags.

A flag wins over the environment, the environment over the file, the file over the default. The file is TOML
(``HESTIA_STORE = "mongodb://..."``); its path is ``--config`` or ``HESTIA_CONFIG``, by default ``hestia.toml`` where
it exists.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

CANONICAL_BASE = "https://hestia.example/fhir"
"""`{B}` of the domain papers: the base of canonicals that this project publishes itself."""


class SettingsError(Exception):
    """A setting that cannot be used; the message names it and says what is expected."""


def _text(text: str) -> str:
    return text


def _whole(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            number = int(text.replace("_", ""))
        except ValueError:
            raise ValueError(f"a whole number from {low} to {high}") from None
        if not low <= number <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return number

    return parse


def _bytes(text: str) -> int:
    units = {"kb": 1_000, "mb": 1_000_000, "gb": 1_000_000_000, "k": 1_000, "m": 1_000_000, "g": 1_000_000_000, "b": 1}
    lowered = text.strip().lower()
    for unit in sorted(units, key=len, reverse=True):
        if lowered.endswith(unit) and lowered[: -len(unit)].strip().isdigit():
            return int(lowered[: -len(unit)]) * units[unit]
    if lowered.isdigit() and int(lowered) > 0:
        return int(lowered)
    raise ValueError("a number of bytes, such as 64000000 or 64MB")


def _choice(*allowed: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in allowed:
            raise ValueError(" or ".join(allowed))
        return text

    return parse


def _switch(text: str) -> bool:
    lowered = text.strip().lower()
    if lowered in ("on", "true", "1", "yes"):
        return True
    if lowered in ("off", "false", "0", "no"):
        return False
    raise ValueError("on or off")


def _zone(text: str) -> str:
    try:
        ZoneInfo(text)
    except Exception:
        raise ValueError("the name of a time zone, such as UTC or Asia/Shanghai") from None
    return text


def _store(text: str) -> str:
    if text.startswith(("mongodb://", "mongodb+srv://")):
        return text
    if text.startswith("sqlite:///") and len(text) > len("sqlite:///"):
        return text
    raise ValueError("sqlite:///relative/path, sqlite:////absolute/path or a mongodb:// URI")


def _base_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment:
        raise ValueError("an http or https URL such as https://fhir.example.org/fhir")
    return text.rstrip("/")


def _urls(text: str) -> tuple[str, ...]:
    return tuple(_base_url(part.strip()) for part in text.split(",") if part.strip())


def _words(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _path(text: str) -> Path:
    return Path(text)


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table: environment name, how text becomes a value, default as text, and what it means."""

    name: str
    parse: Callable[[str], Any]
    default: str
    help: str
    secret: bool = False
    """Its value is never shown."""

    @property
    def field(self) -> str:
        return self.name.removeprefix("HESTIA_").lower()

    @property
    def flag(self) -> str:
        return "--" + self.field.replace("_", "-")


SETTINGS: tuple[Setting, ...] = (
    Setting(
        "HESTIA_STORE",
        _store,
        "",
        "where resources live: sqlite:///relative, sqlite:////absolute or a mongodb:// URI",
    ),
    Setting("HESTIA_DATA", _path, "var", "directory of everything that the server writes"),
    Setting("HESTIA_HOST", _text, "127.0.0.1", "address to listen on"),
    Setting("HESTIA_PORT", _whole(1, 65535), "8080", "port to listen on"),
    Setting(
        "HESTIA_BASE_URL",
        _base_url,
        "",
        "the FHIR base that clients use; default http://HOST:PORT/fhir; never taken from a request",
    ),
    Setting(
        "HESTIA_BASE_ALIASES", _urls, "", "further bases, comma separated, whose absolute references count as our own"
    ),
    Setting("HESTIA_WORKERS", _whole(1, 64), "2", "worker processes"),
    Setting("HESTIA_DEMO", _switch, "on", "load the demo hospital at the first start"),
    Setting(
        "HESTIA_AUTH",
        _choice("on", "off"),
        "on",
        "access control; off is for experiments on this machine only: everybody who reaches the server may do anything",
    ),
    Setting(
        "HESTIA_MODE",
        _choice("development", "production"),
        "development",
        "production refuses demo accounts, access control that is off, and a generated secret key",
    ),
    Setting(
        "HESTIA_SECRET_KEY",
        _text,
        "",
        "the master key, 32 bytes as base64url or hex; several, comma separated: the first seals, all open",
        secret=True,
    ),
    Setting(
        "HESTIA_SECRET_KEY_FILE",
        _text,
        "",
        "file with the master key; in development DATA/secret.key, which is made at the first start",
    ),
    Setting("HESTIA_TOKEN_LIFETIME", _whole(60, 86_400), "3600", "seconds that an access token lives"),
    Setting(
        "HESTIA_CLIENT_REGISTRATION",
        _choice("approval", "open", "off"),
        "approval",
        "dynamic registration of apps: an administrator approves, anybody may, or nobody",
    ),
    Setting("HESTIA_TENANT", _text, "", "launch context `tenant` that apps are told; none by default"),
    Setting("HESTIA_SIGN_UP", _switch, "on", "patients may make accounts for themselves"),
    Setting("HESTIA_STAFF_SECOND_FACTOR", _switch, "off", "staff have to set up a second factor"),
    Setting(
        "HESTIA_TREATMENT_DAYS",
        _whole(0, 36_500),
        "180",
        "days after a visit during which a doctor still sees the patient",
    ),
    Setting(
        "HESTIA_FETCH_ALLOW",
        _words,
        "",
        "private hosts (host or host:port) that keys may be fetched from, comma separated",
    ),
    Setting("HESTIA_SMTP", _text, "", "mail server: smtp://user:password@host:587 or smtps://...", secret=True),
    Setting("HESTIA_MAIL_FROM", _text, "", "sender address of mails"),
    Setting("HESTIA_SMS", _text, "", "adapter that sends text messages, module:attribute"),
    Setting("HESTIA_PROXIES", _whole(0, 9), "0", "trusted proxies in front, whose X-Forwarded-For is believed"),
    Setting("HESTIA_AUDIT", _switch, "on", "AuditEvents of everything that happens; off is refused in production"),
    Setting(
        "HESTIA_AUDIT_SYNC",
        _choice("interval", "always"),
        "interval",
        "when the journal of reads reaches the disk: within 100 ms, or before each answer",
    ),
    Setting(
        "HESTIA_TIMEZONE",
        _zone,
        "UTC",
        "zone of dates and of times without an offset in searches; changing it needs hestia reindex",
    ),
    Setting(
        "HESTIA_VALIDATION", _choice("default", "strict"), "default", "strict makes errors of the warnings on writes"
    ),
    Setting(
        "HESTIA_INTEGRITY",
        _switch,
        "off",
        "refuse references to absent resources (422) and deletes of referenced ones (409)",
    ),
    Setting("HESTIA_MAX_BODY", _bytes, "64MB", "largest request body; above it 413"),
    Setting(
        "HESTIA_CHAIN_LIMIT",
        _whole(1, 10_000_000),
        "100000",
        "resources at one link of a chain above which a search is too costly",
    ),
    Setting("HESTIA_FULLTEXT", _switch, "on", "word index for _text and _content; off: these are 400"),
    Setting("HESTIA_CORS_ORIGINS", _text, "*", "origins of browser apps that may call the API, comma separated, or *"),
    Setting(
        "HESTIA_LOG",
        _choice("access", "quiet"),
        "access",
        "access log (method, path, parameter names, status, time) or none",
    ),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting, parsed. `source` tells per setting where its value came from."""

    store: str
    data: Path
    host: str
    port: int
    base_url: str
    base_aliases: tuple[str, ...]
    workers: int
    demo: bool
    auth: str
    mode: str
    secret_key: str
    secret_key_file: str
    token_lifetime: int
    client_registration: str
    tenant: str
    sign_up: bool
    staff_second_factor: bool
    treatment_days: int
    fetch_allow: tuple[str, ...]
    smtp: str
    mail_from: str
    sms: str
    proxies: int
    audit: bool
    audit_sync: str
    timezone: str
    validation: str
    integrity: bool
    max_body: int
    chain_limit: int
    fulltext: bool
    cors_origins: str
    log: str
    source: Mapping[str, str]

    def environment(self) -> dict[str, str]:
        """The settings as environment variables, for worker processes."""
        return {setting.name: as_text(getattr(self, setting.field)) for setting in SETTINGS}

    @property
    def issuer(self) -> str:
        """The origin of the base URL: what the authorization server calls itself."""
        parts = urlsplit(self.base_url)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def production(self) -> bool:
        """Whether nothing that is only for trying out may exist."""
        return self.mode == "production"

    @property
    def sqlite_path(self) -> Path | None:
        """The file of the embedded store; None on MongoDB."""
        return sqlite_path(self.store)


def sqlite_path(store: str) -> Path | None:
    """The file of a store URI: ``sqlite:///var/x.db`` is relative, ``sqlite:////x.db`` absolute; None for MongoDB."""
    return Path(store.removeprefix("sqlite:///")) if store.startswith("sqlite:///") else None


def as_text(value: Any) -> str:
    """A parsed value as the text that would parse to it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return ",".join(value)
    return str(value)


def load(
    flags: Mapping[str, str | None] | None = None,
    environment: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> Settings:
    """Settings from flags (by field name), environment and file. Raises SettingsError naming the setting at fault."""
    given = os.environ if environment is None else environment
    flags = flags or {}
    path = file or (Path(given["HESTIA_CONFIG"]) if given.get("HESTIA_CONFIG") else None)
    in_file = _read_file(path)
    unknown = sorted(set(in_file) - {setting.name for setting in SETTINGS})
    if unknown:
        raise SettingsError(f"The settings file names {', '.join(unknown)}, which are not settings.")
    values: dict[str, Any] = {}
    source: dict[str, str] = {}
    for setting in SETTINGS:
        text, origin = setting.default, "default"
        for candidate, name in (
            (flags.get(setting.field), "flag"),
            (given.get(setting.name), "environment"),
            (in_file.get(setting.name), "file"),
        ):
            if candidate is not None and candidate != "":
                text, origin = candidate, name
                break
        try:
            values[setting.field] = setting.parse(text) if text != "" or origin != "default" else ""
        except ValueError as error:
            raise SettingsError(f"{setting.name} (from the {origin}) must be {error}.") from None
        source[setting.field] = origin
    if not values["store"]:
        values["store"] = f"sqlite:///{values['data'] / 'hestia.db'}"
    if not values["base_url"]:
        host = values["host"] if values["host"] not in ("0.0.0.0", "::", "") else "127.0.0.1"  # noqa: S104 - compared, not bound
        host = f"[{host}]" if ":" in host else host
        values["base_url"] = f"http://{host}:{values['port']}/fhir"
    for name in ("base_aliases", "fetch_allow"):
        if values[name] == "":
            values[name] = ()
    assert {field.name for field in fields(Settings)} == set(values) | {"source"}
    return Settings(**values, source=source)


def _read_file(path: Path | None) -> dict[str, str]:
    if path is None:
        path = Path("hestia.toml")
        if not path.is_file():
            return {}
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"The settings file {path} does not exist.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"The settings file {path} is not TOML: {error}") from None
    return {name: as_text(value) for name, value in content.items()}
