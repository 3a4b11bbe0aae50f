"""What the authorization server remembers, as flat records. Times are whole seconds since 1970.

Secrets are never here in the clear: passwords and client secrets as argon2id hashes, codes, tokens and cookies as
SHA-256 of their random text, TOTP secrets, private keys, phone numbers and e-mail addresses sealed (`context.Vault`).
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec


class Record(msgspec.Struct, kw_only=True, frozen=True):
    """A thing that a store keeps. `UNIQUE` fields are unique where not None; `INDEXED` can be searched for."""

    KIND: ClassVar[str]
    UNIQUE: ClassVar[tuple[str, ...]] = ()
    INDEXED: ClassVar[tuple[str, ...]] = ()
    DURABLE: ClassVar[bool] = True
    """Whether a backup holds it."""

    id: str
    created_at: int = 0
    expires_at: int | None = None


class RoleLink(msgspec.Struct, kw_only=True, frozen=True):
    """One role of an account. `fhir_user` is a relative reference: Patient/x of a patient, Practitioner/x of staff."""

    role: str
    fhir_user: str
    granted_at: int = 0
    granted_by: str | None = None


class Account(Record, kw_only=True, frozen=True):
    """A person who can log in (K1). `person` is ``Person/x``, the FHIR identity; it leads to patient and dependents."""

    KIND: ClassVar[str] = "account"
    UNIQUE: ClassVar[tuple[str, ...]] = ("username", "phone", "email")
    INDEXED: ClassVar[tuple[str, ...]] = ("status", "person")

    name: str
    """As shown to people; not unique, not used to log in."""
    username: str | None = None
    """Casefolded."""
    phone: str | None = None
    """E.164, sealed (deterministically, so that it is unique and can be found)."""
    phone_verified: bool = False
    email: str | None = None
    """Casefolded, sealed."""
    email_verified: bool = False
    person: str | None = None
    roles: tuple[RoleLink, ...] = ()
    status: str = "active"
    """active, locked or closed."""
    password_hash: str | None = None
    must_change_password: bool = False
    password_changed_at: int = 0
    totp_secret: str | None = None
    """Sealed; None without a second factor."""
    totp_pending: str | None = None
    totp_step: int = 0
    """The last accepted time step: a code works once."""
    recovery_codes: tuple[str, ...] = ()
    failures: int = 0
    locked_until: int = 0
    locale: str | None = None
    demo: bool = False
    updated_at: int = 0


class Client(Record, kw_only=True, frozen=True):
    """A registered app or back-end service; `id` is its client_id. RFC 7591 section 2."""

    KIND: ClassVar[str] = "client"
    INDEXED: ClassVar[tuple[str, ...]] = ("status",)

    name: str
    type: str
    """public, confidential-symmetric, confidential-asymmetric or backend."""
    secret_hash: str | None = None
    jwks: dict[str, Any] | None = None
    jwks_uri: str | None = None
    redirect_uris: tuple[str, ...] = ()
    launch_uri: str | None = None
    logo_uri: str | None = None
    client_uri: str | None = None
    tos_uri: str | None = None
    policy_uri: str | None = None
    contacts: tuple[str, ...] = ()
    scope: str = ""
    """The scopes it may ask for, space separated."""
    grant_types: tuple[str, ...] = ("authorization_code", "refresh_token")
    status: str = "active"
    """pending (registered, not approved), active or disabled."""
    trusted: bool = False
    """The hospital's own: people are not asked for consent."""
    demo: bool = False
    registration_token_hash: str | None = None
    updated_at: int = 0


class Grant(Record, kw_only=True, frozen=True):
    """One authorization: what an account (or a back-end service) let a client do. The family of all its tokens."""

    KIND: ClassVar[str] = "grant"
    INDEXED: ClassVar[tuple[str, ...]] = ("account", "client", "session")

    client: str
    client_name: str = ""
    account: str | None = None
    name: str = ""
    """Of the person, for the audit; the client's name for a back-end service."""
    role: str
    """patient, doctor, pharmacist, nurse, laboratory, administrator, or system."""
    fhir_user: str | None = None
    person: str | None = None
    scope: str = ""
    """As granted, space separated."""
    patient: str | None = None
    """Launch context: the id of a Patient."""
    encounter: str | None = None
    context: dict[str, Any] = {}
    """Further launch parameters: need_patient_banner, smart_style_url, intent, tenant, fhirContext."""
    session: str | None = None
    """Of online_access: ends with that session."""
    auth_time: int = 0
    revoked_at: int | None = None
    revoked_tokens: tuple[str, ...] = ()
    """jti of single access tokens that were revoked before they expired."""
    last_used_at: int = 0


class Code(Record, kw_only=True, frozen=True):
    """An authorization code; `id` is its hash. Kept past its use, so that a replay is noticed and kills the family."""

    KIND: ClassVar[str] = "code"
    INDEXED: ClassVar[tuple[str, ...]] = ("grant",)
    DURABLE: ClassVar[bool] = False

    grant: str
    client: str
    redirect_uri: str
    code_challenge: str
    scope: str
    valid_until: int
    nonce: str | None = None
    amr: tuple[str, ...] = ()
    """How the person had logged in (RFC 8176), for the id_token."""
    used_at: int | None = None


class RefreshToken(Record, kw_only=True, frozen=True):
    """A refresh token; `id` is its hash. A used one is kept: presented again it kills the family."""

    KIND: ClassVar[str] = "refresh-token"
    INDEXED: ClassVar[tuple[str, ...]] = ("grant",)

    grant: str
    client: str
    scope: str
    used_at: int | None = None


class Session(Record, kw_only=True, frozen=True):
    """A browser that is logged in; `id` is the hash of its cookie. Replaced at login and at each change of role."""

    KIND: ClassVar[str] = "session"
    INDEXED: ClassVar[tuple[str, ...]] = ("account",)
    DURABLE: ClassVar[bool] = False

    account: str
    role: str | None = None
    """None until one was chosen."""
    auth_time: int = 0
    amr: tuple[str, ...] = ()
    """RFC 8176: pwd, otp, mfa ..."""
    last_seen_at: int = 0
    address: str = ""
    user_agent: str = ""


class Approval(Record, kw_only=True, frozen=True):
    """What a person in one role let an app do and wants remembered; `id` is ``account|client|role``."""

    KIND: ClassVar[str] = "approval"
    INDEXED: ClassVar[tuple[str, ...]] = ("account", "client")

    account: str
    client: str
    scope: str
    patient: str | None = None


class Launch(Record, kw_only=True, frozen=True):
    """An EHR launch that was created; `id` is the hash of the `launch` parameter. SMART App Launch 2.2."""

    KIND: ClassVar[str] = "launch"
    DURABLE: ClassVar[bool] = False

    account: str
    role: str
    client: str | None = None
    patient: str | None = None
    encounter: str | None = None
    context: dict[str, Any] = {}


class OneTime(Record, kw_only=True, frozen=True):
    """A one-time code (K1), a pending authorization request, a used jti, a form in progress: `id` says which."""

    KIND: ClassVar[str] = "one-time"
    DURABLE: ClassVar[bool] = False

    value: dict[str, Any] = {}
    tries: int = 0


class Key(Record, kw_only=True, frozen=True):
    """A signing key; `id` numbers the keys of an algorithm, the kid is in `public`. `private` is the sealed JWK."""

    KIND: ClassVar[str] = "key"
    INDEXED: ClassVar[tuple[str, ...]] = ("status",)

    alg: str
    public: dict[str, Any]
    private: str
    status: str = "active"
    """next (published, not yet used), active, or retired (published until its last token has expired)."""
    status_since: int = 0


class RolePolicy(Record, kw_only=True, frozen=True):
    """One version of a role's policy; `id` is ``role|version``. Shape of `rules`: fhir_server/access/policies.py."""

    KIND: ClassVar[str] = "policy"
    UNIQUE: ClassVar[tuple[str, ...]] = ()
    INDEXED: ClassVar[tuple[str, ...]] = ("role",)

    role: str
    version: int
    rules: list[dict[str, Any]]
    author: str = ""
    note: str = ""


class Message(Record, kw_only=True, frozen=True):
    """What was sent to a person, as the development outbox shows it."""

    KIND: ClassVar[str] = "message"
    DURABLE: ClassVar[bool] = False

    channel: str
    """sms or email."""
    to: str
    """Sealed."""
    subject: str = ""
    text: str
    """Sealed."""


KINDS: tuple[type[Record], ...] = (
    Account, Client, Grant, Code, RefreshToken, Session, Approval, Launch, OneTime, Key, RolePolicy, Message,
)  # fmt: skip
