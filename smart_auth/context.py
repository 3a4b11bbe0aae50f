"""The parts of one authorization server, and what it asks of its surroundings.

`hestia` makes an `Auth` per worker. Nothing here knows Flask, a concrete store or FHIR's REST API.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from smart_auth.store.protocol import AuthStore

if TYPE_CHECKING:
    from smart_auth.accounts import Accounts
    from smart_auth.keys import Keys
    from smart_auth.records import Account
    from smart_auth.tokens import Tokens

ROLES: Final = ("patient", "doctor", "pharmacist", "nurse", "laboratory", "administrator")
"""Roles that an account can hold; `system` is the role of back-end services."""

PATIENT_SCOPED: Final = "patient"


@dataclass(frozen=True, slots=True)
class AuthSettings:
    """Settings of the authorization server. `issuer` is the origin (no trailing slash), `base_url` the FHIR base."""

    issuer: str = "http://127.0.0.1:8080"
    base_url: str = "http://127.0.0.1:8080/fhir"
    production: bool = False
    access_token_lifetime_s: int = 3600
    code_lifetime_s: int = 60
    refresh_token_lifetime_s: int = 90 * 86_400
    id_token_lifetime_s: int = 3600
    session_lifetime_s: int = 12 * 3600
    session_idle_s: int = 3600
    otp_lifetime_s: int = 300
    otp_tries: int = 5
    lockout_failures: int = 5
    lockout_s: int = 900
    key_rotation_s: int = 90 * 86_400
    registration: str = "approval"
    """Dynamic registration (RFC 7591): approval (default), open, or off."""
    self_registration: bool = True
    """Whether patients may make accounts."""
    staff_second_factor: bool = False
    """Whether everybody but patients has to set up a second factor."""
    default_locale: str = "zh"
    fetch_allow: tuple[str, ...] = ()
    """host or host:port that may be fetched from although it is private (jwks_uri of a test tool on this machine)."""
    cors_origins: tuple[str, ...] = ("*",)
    tenant: str = ""
    software_version: str = "0.1.0"

    @property
    def secure(self) -> bool:
        """Whether people come by TLS: cookies are Secure then, and HSTS is sent."""
        return self.issuer.startswith("https://")


class Vault(Protocol):
    """Authenticated encryption with a key that is not in the database."""

    def seal(self, text: str, purpose: str) -> str:
        """Sealed text, different each time. `purpose` is bound to it."""

    def seal_exact(self, text: str, purpose: str) -> str:
        """Sealed text, the same for the same text and purpose: can be unique and found by equality."""

    def exact_forms(self, text: str, purpose: str) -> list[str]:
        """What `seal_exact` gives under each key that still opens, the current one first."""

    def unseal(self, sealed: str, purpose: str) -> str:
        """The text. Raises ValueError for another key or purpose, or what was changed."""

    def is_current(self, sealed: str) -> bool:
        """Whether a sealed text is under the key that seals now."""

    def digest(self, text: str, purpose: str) -> str:
        """A keyed hash of a short secret, or of what is counted, that cannot be guessed from the database."""


class Notifier(Protocol):
    """Sends one message to one address. Never raises for an address that does not exist; logs no address."""

    def send(self, channel: str, to: str, subject: str, text: str) -> None:
        """`channel` is sms or email, `to` an E.164 number or an address in the clear."""


@dataclass(frozen=True, slots=True)
class Treated:
    """A Patient whom somebody may act for. `relation` is "self" or a v3-RoleCode of a RelatedPerson (MTH, GUARD...)."""

    patient: str
    """Its id."""
    name: str
    relation: str
    related_person: str | None = None
    """``RelatedPerson/x`` unless it is oneself."""
    birth_date: str | None = None
    gender: str | None = None


CURRENT: Final = frozenset({"arrived", "triaged", "in-progress", "onleave"})
"""EncounterStatus of a visit at which the patient is now."""


@dataclass(frozen=True, slots=True)
class Visit:
    """An Encounter of a Patient, in words that tell it from others. What the asker may not see is not in them."""

    encounter: str
    """Its id."""
    patient: str
    """Id of its Patient."""
    status: str
    """EncounterStatus."""
    code: str = ""
    """Of Encounter.class, v3-ActEncounterCode; `kind` is its display, for a code without a translation."""
    kind: str = ""
    start: str | None = None
    """Local time, as far as it is known: 2026-01-05 09:30, 2026-01-05, 2026."""
    end: str | None = None
    department: str | None = None
    practitioner: str | None = None
    reason: str | None = None

    @property
    def current(self) -> bool:
        """Whether the patient is there now."""
        return self.status in CURRENT

    @property
    def choosable(self) -> bool:
        """Whether an app can be opened for it: it takes, will take or took place."""
        return self.status not in ("cancelled", "entered-in-error")


class Directory(Protocol):
    """What the authorization server asks of the FHIR data. References are relative ("Patient/x")."""

    def treated(self, person: str | None, fhir_user: str | None) -> list[Treated]:
        """Whom a person may act for now: oneself first, then dependents within their period (K2)."""

    def display(self, reference: str) -> str | None:
        """The name of a person, patient, practitioner, encounter (its class and day) or organization."""

    def exists(self, reference: str) -> bool: ...

    def patients(self, role: str, fhir_user: str | None, text: str, limit: int = 20) -> list[Treated]:
        """Patients whom staff may see (treatment relation), by name or identifier; for the picker. `relation` is ""."""

    def sees(self, role: str, fhir_user: str | None, patient: str) -> bool:
        """Whether staff may see the Patient of an id: `patients` would find it."""

    def visits(
        self,
        role: str,
        person: str | None,
        fhir_user: str | None,
        patient: str,
        until: str | None = None,
        limit: int = 20,
    ) -> list[Visit]:
        """Choosable visits of a Patient id that somebody may see in a role: current ones, then the newest first.

        `until` is a day (yyyy-mm-dd) on or before which they began. Nothing for a patient whom they may not see.
        """

    def visit(self, role: str, person: str | None, fhir_user: str | None, patient: str, encounter: str) -> Visit | None:
        """The visit of an Encounter id, whatever its status, if it is of this Patient and they may see it."""

    def register(self, name: str, phone: str | None, email: str | None, locale: str) -> tuple[str, str]:
        """Makes a Person and the Patient it is (K1, K2) for a new account: ("Person/x", "Patient/y")."""


@dataclass(frozen=True, slots=True)
class AuthEvent:
    """Something that the audit has to know: login, refusal, consent, administration. IHE BALP has the shapes.

    `action` is a word such as login, login-failed, logout, authorize, token, token-refused, revoke, account-create,
    account-lock, role-grant, client-register, client-approve, policy-change, password-change. `outcome` is 0 success,
    4 minor failure, 8 serious failure. No secrets, no phone numbers.
    """

    action: str
    outcome: int = 0
    account: str | None = None
    name: str | None = None
    fhir_user: str | None = None
    role: str | None = None
    client: str | None = None
    client_name: str | None = None
    patient: str | None = None
    address: str | None = None
    """Network address of the one who asked."""
    detail: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Access:
    """One line of what a patient sees of the audit: who did what with whose record."""

    at: int
    who: str
    """Name of the person, or of the back-end service."""
    action: str
    """A letter of SMART: c, r, u, d or s."""
    what: str
    """A resource type."""
    patient: str = ""
    """Name of the person whose record it is."""
    role: str | None = None
    app: str | None = None
    emergency: bool = False
    """Whether the glass was broken; `reason` is what was given."""
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class DemoLogin:
    """A demo account, with its password: never in production."""

    username: str
    password: str
    name: str
    roles: tuple[str, ...]
    totp_secret: str | None = None


def now() -> int:
    """Whole seconds since 1970."""
    return int(time.time())


@dataclass(slots=True)
class Auth:
    """One authorization server, of one process and thread. `accounts`, `keys` and `tokens` are set by `create_auth`."""

    settings: AuthSettings
    store: AuthStore
    vault: Vault
    notifier: Notifier
    directory: Directory
    audit: Callable[[AuthEvent], None] = lambda event: None
    clock: Callable[[], int] = now
    policies: Any = None
    """`PolicyAdmin` of hestia: shows, checks and stores role policies for the administrator's page."""
    accounts: Accounts = None  # type: ignore[assignment]
    keys: Keys = None  # type: ignore[assignment]
    tokens: Tokens = None  # type: ignore[assignment]
    access_log: Callable[[Account], list[Access]] | None = None
    """Who looked at the records of the people whom an account may act for, newest first; None: nobody keeps it."""
    demo: Callable[[], list[DemoLogin]] | None = None
    """The demo accounts, for the page that logs in as each role; None in production."""
