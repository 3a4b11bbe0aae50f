"""Registered apps and back-end services: what their metadata may be, and what administrators do with them.

RFC 7591 section 2 has the metadata. Redirect addresses are compared as strings (RFC 9700 section 2.1), with the one
exception of RFC 8252 section 7.3: of a public client's address on a loopback IP that was registered without a port.
"""

from __future__ import annotations

import re
import secrets
from base64 import urlsafe_b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import msgspec
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from smart_auth import passwords, scopes
from smart_auth.context import AuthEvent
from smart_auth.fetch import Fetcher, FetchFailed
from smart_auth.problems import N_, NotPossible, UnusableValue
from smart_auth.records import Approval, Client, Grant
from smart_auth.sessions import revoke

if TYPE_CHECKING:
    from smart_auth.context import Auth

PUBLIC: Final = "public"
SYMMETRIC: Final = "confidential-symmetric"
ASYMMETRIC: Final = "confidential-asymmetric"
BACKEND: Final = "backend"
TYPES: Final = (PUBLIC, SYMMETRIC, ASYMMETRIC, BACKEND)

AUTH_METHODS: Final = {
    PUBLIC: "none",
    SYMMETRIC: "client_secret_basic",
    ASYMMETRIC: "private_key_jwt",
    BACKEND: "private_key_jwt",
}
"""token_endpoint_auth_method by type."""

ASSERTION_ALGS: Final = ("ES384", "RS384")
"""What clients sign with. SMART App Launch 2.2, client-confidential-asymmetric.html."""

DEFAULT_SCOPE: Final = (
    "launch launch/patient launch/encounter openid fhirUser profile offline_access online_access patient/*.rs user/*.rs"
)
DEFAULT_BACKEND_SCOPE: Final = "system/*.rs"

MAX_URI: Final = 2000
MAX_URIS: Final = 30
MAX_KEYS: Final = 20
MAX_NAME: Final = 200
MAX_SCOPE: Final = 20_000
MIN_RSA_BITS: Final = 2048

NO_CLIENT: Final = N_("There is no such app.")
_LOOPBACK: Final = frozenset(("127.0.0.1", "::1", "localhost"))
_LOOPBACK_IPS: Final = frozenset(("127.0.0.1", "::1"))
_PRINTED: Final = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class Metadata:
    """What is to be known of a client; checked by `Clients.create`."""

    name: str
    type: str
    redirect_uris: tuple[str, ...] = ()
    scope: str | None = None
    jwks: dict[str, Any] | None = None
    jwks_uri: str | None = None
    launch_uri: str | None = None
    logo_uri: str | None = None
    client_uri: str | None = None
    tos_uri: str | None = None
    policy_uri: str | None = None
    contacts: tuple[str, ...] = ()
    trusted: bool = False


class Clients:
    """The clients of one authorization server."""

    def __init__(self, auth: Auth) -> None:
        self._auth = auth
        self._fetcher = Fetcher(auth.settings.fetch_allow)

    def get(self, client_id: str) -> Client | None:
        """The client of an id, whatever its status."""
        # RFC 6749 appendix A.1: printable ASCII.
        known = 0 < len(client_id) <= MAX_NAME and client_id.isascii()
        return self._auth.store.get(Client, client_id) if known else None

    def active(self, client_id: str) -> Client | None:
        """The client of an id, if it may be used."""
        found = self.get(client_id)
        return found if found is not None and found.status == "active" else None

    def list(self) -> list[Client]:
        """All clients, those that wait for approval first, then by name."""
        found: list[Client] = []
        while page := self._auth.store.page(Client, after=found[-1].id if found else ""):
            found += page
        return sorted(found, key=lambda one: (one.status != "pending", one.name, one.id))

    # --- making and changing ------------------------------------------------------------------------------------------

    def create(
        self,
        metadata: Metadata,
        *,
        status: str = "active",
        by: str | None = None,
        address: str = "",
        registration_token_hash: str | None = None,
        client_id: str | None = None,
    ) -> tuple[Client, str | None]:
        """A new client, and its secret if it has one, which is shown once. Raises: UnusableValue."""
        self.check(metadata)
        now = self._auth.clock()
        secret = secrets.token_urlsafe(32) if metadata.type == SYMMETRIC else None
        backend = metadata.type == BACKEND
        client = Client(
            id=client_id or secrets.token_hex(16),
            name=metadata.name.strip(),
            type=metadata.type,
            secret_hash=passwords.hash_password(secret) if secret is not None else None,
            jwks=metadata.jwks,
            jwks_uri=metadata.jwks_uri,
            redirect_uris=() if backend else metadata.redirect_uris,
            launch_uri=metadata.launch_uri,
            logo_uri=metadata.logo_uri,
            client_uri=metadata.client_uri,
            tos_uri=metadata.tos_uri,
            policy_uri=metadata.policy_uri,
            contacts=metadata.contacts,
            scope=self._scope(metadata),
            grant_types=("client_credentials",) if backend else ("authorization_code", "refresh_token"),
            status=status,
            trusted=metadata.trusted,
            registration_token_hash=registration_token_hash,
            created_at=now,
            updated_at=now,
        )
        self._auth.store.insert(client)
        self._tell("client-register", client, by, address, status=status)
        return client, secret

    def change(self, client_id: str, metadata: Metadata, *, by: str, address: str = "") -> Client:
        """Other metadata of a client; its type stays. What people let it do is ended when it may ask for other scopes
        than before. Raises: UnusableValue, NotPossible.
        """
        before = self._need(client_id)
        metadata = Metadata(**{**_fields(metadata), "type": before.type})
        self.check(metadata)
        values = {name: value for name, value in _fields(metadata).items() if name not in ("type", "scope")}
        values |= {"name": metadata.name.strip(), "scope": self._scope(metadata)}
        changed = self._change(client_id, **values)
        if changed.scope != before.scope:
            self._end(client_id)
        self._tell("client-change", changed, by, address)
        return changed

    def set_status(self, client_id: str, status: str, *, by: str, address: str = "") -> Client:
        """Approves (active) or disables a client; one that is disabled loses every grant. Raises: NotPossible."""
        if status not in ("pending", "active", "disabled"):
            raise NotPossible(N_("There is no such status."))
        before = self._need(client_id)
        changed = self._change(client_id, status=status)
        if status != "active":
            self._end(client_id)
        action = {"active": "client-approve" if before.status == "pending" else "client-enable"}
        self._tell(action.get(status, "client-disable"), changed, by, address)
        return changed

    def new_secret(self, client_id: str, *, by: str, address: str = "") -> str:
        """Another secret in place of the one before; it is shown once. Raises: NotPossible."""
        if self._need(client_id).type != SYMMETRIC:
            raise NotPossible(N_("This kind of app has no secret."))
        secret = secrets.token_urlsafe(32)
        changed = self._change(client_id, secret_hash=passwords.hash_password(secret))
        self._tell("client-secret", changed, by, address)
        return secret

    def delete(self, client_id: str, *, by: str, address: str = "") -> None:
        """Removes a client with everything that it was allowed to do. Raises: NotPossible."""
        client = self._need(client_id)
        self._auth.store.delete(Client, client_id)
        self._end(client_id)
        self._tell("client-delete", client, by, address)

    def _end(self, client_id: str) -> None:
        for grant in self._auth.store.find(Grant, client=client_id):
            revoke(self._auth, grant)
        for approval in self._auth.store.find(Approval, client=client_id):
            self._auth.store.delete(Approval, approval.id)

    # --- checking -----------------------------------------------------------------------------------------------------

    def check(self, metadata: Metadata) -> None:
        """Raises: UnusableValue, whose `field` is the name that RFC 7591 section 2 gives it."""
        if not 0 < len(metadata.name.strip()) <= MAX_NAME or not metadata.name.isprintable():
            raise UnusableValue("client_name", N_("An app has a name of at most 200 characters."))
        if metadata.type not in TYPES:
            raise UnusableValue("token_endpoint_auth_method", N_("There is no such kind of app."))
        self._check_redirects(metadata)
        for field in ("launch_uri", "logo_uri", "client_uri", "tos_uri", "policy_uri"):
            uri = getattr(metadata, field)
            if uri is not None and not is_web_address(uri):
                raise UnusableValue(field, N_("This is not an address of a web page (https)."))
        if len(metadata.contacts) > MAX_URIS or any(len(one) > MAX_NAME for one in metadata.contacts):
            raise UnusableValue("contacts", N_("These are too many or too long."))
        self._check_keys(metadata)
        if not self._scope(metadata):
            raise UnusableValue("scope", N_("None of these scopes is one that this kind of app may have."))

    def _check_redirects(self, metadata: Metadata) -> None:
        if metadata.type == BACKEND:
            return
        if not 0 < len(metadata.redirect_uris) <= MAX_URIS:
            raise UnusableValue("redirect_uris", N_("An app has 1 to 30 redirect addresses."))
        if not all(is_redirect_uri(one) for one in metadata.redirect_uris):
            raise UnusableValue(
                "redirect_uris",
                N_("A redirect address is https, or http on this machine itself, without fragment and wildcards."),
            )

    def _check_keys(self, metadata: Metadata) -> None:
        if AUTH_METHODS[metadata.type] != "private_key_jwt":
            if metadata.jwks is not None or metadata.jwks_uri is not None:
                raise UnusableValue("jwks", N_("This kind of app has no keys."))
            return
        if (metadata.jwks is None) == (metadata.jwks_uri is None):
            raise UnusableValue("jwks", N_("Give either the public keys or their address."))
        if metadata.jwks_uri is not None:
            try:
                self._fetcher.check_url(metadata.jwks_uri)
            except FetchFailed:
                raise UnusableValue("jwks_uri", N_("Public keys are fetched by https from a public host.")) from None
        elif not usable_keys(metadata.jwks):
            raise UnusableValue("jwks", N_("These are not public keys for ES384 or RS384, each with a kid of its own."))

    def _scope(self, metadata: Metadata) -> str:
        backend = metadata.type == BACKEND
        text = metadata.scope
        if text is None or not text.strip():
            text = DEFAULT_BACKEND_SCOPE if backend else DEFAULT_SCOPE
        if len(text) > MAX_SCOPE:
            raise UnusableValue("scope", N_("These are too many or too long."))
        return scopes.render(
            one
            for one in scopes.parse(text)
            if (isinstance(one, scopes.ResourceScope) and one.context == "system") == backend
        )

    # ------------------------------------------------------------------------------------------------------------------

    def _need(self, client_id: str) -> Client:
        found = self.get(client_id)
        if found is None:
            raise NotPossible(NO_CLIENT)
        return found

    def _change(self, client_id: str, **values: Any) -> Client:
        now = self._auth.clock()
        changed = self._auth.store.change(
            Client, client_id, lambda one: msgspec.structs.replace(one, updated_at=now, **values)
        )
        if changed is None:
            raise NotPossible(NO_CLIENT)
        return changed

    def _tell(self, action: str, client: Client, by: str | None, address: str, **detail: str) -> None:
        if by is not None:
            detail["by"] = by
        self._auth.audit(
            AuthEvent(action, client=client.id, client_name=client.name, address=address or None, detail=detail)
        )


def redirect_allowed(client: Client, redirect_uri: str) -> bool:
    """Whether a redirect address is one of the client's. RFC 9700 section 2.1, RFC 8252 section 7.3."""
    if redirect_uri in client.redirect_uris:
        return True
    if client.type != PUBLIC or not is_redirect_uri(redirect_uri):
        return False
    parts = urlsplit(redirect_uri)
    if parts.scheme != "http" or parts.hostname not in _LOOPBACK_IPS or parts.port is None:
        return False
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    portless = f"http://{host}{parts.path}" + (f"?{parts.query}" if parts.query else "")
    return portless in client.redirect_uris


def is_redirect_uri(text: str) -> bool:
    """Whether a redirect address can be registered: https, or http on the loopback; nothing that can be confused."""
    if not _is_uri(text) or "#" in text or "*" in text:
        return False
    parts = urlsplit(text)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)


def is_web_address(text: str) -> bool:
    """Whether people can be sent to an address: https, or http on the loopback."""
    return _is_uri(text) and (
        urlsplit(text).scheme == "https" or (urlsplit(text).scheme == "http" and urlsplit(text).hostname in _LOOPBACK)
    )


def _is_uri(text: str) -> bool:
    if len(text) > MAX_URI or not _PRINTED.fullmatch(text) or "\\" in text:
        return False
    try:
        parts = urlsplit(text)
        return bool(parts.hostname) and parts.username is None and parts.password is None and parts.port != 0
    except ValueError:
        return False


def usable_keys(jwks: Mapping[str, Any] | None) -> bool:
    """Whether a JWK Set has public keys only, each with its kid, and at least one for the algorithms of SMART."""
    keys = jwks.get("keys") if isinstance(jwks, Mapping) else None
    if not isinstance(keys, list) or not 0 < len(keys) <= MAX_KEYS:
        return False
    kids = [key.get("kid") if isinstance(key, dict) else None for key in keys]
    if not all(isinstance(kid, str) and kid for kid in kids) or len(set(kids)) != len(kids):
        return False
    if any("d" in key or key.get("kty") == "oct" for key in keys):
        return False
    return any(verifier(key, alg) is not None for key in keys for alg in ASSERTION_ALGS)


def verifier(key: Mapping[str, Any], alg: str) -> ECKey | RSAKey | None:
    """The public key for one of SMART's algorithms; None when it is for another one, too short, or no key at all."""
    if key.get("use", "sig") != "sig" or key.get("alg", alg) != alg:
        return None
    if not isinstance(key.get("key_ops", []), list) or "verify" not in key.get("key_ops", ["verify"]):
        return None
    try:
        if alg == "ES384" and key.get("kty") == "EC" and key.get("crv") == "P-384":
            return ECKey.import_key({name: key[name] for name in ("kty", "crv", "x", "y")})
        if alg == "RS384" and key.get("kty") == "RSA":
            if len(urlsafe_b64decode(key["n"] + "==")) * 8 < MIN_RSA_BITS:
                return None
            return RSAKey.import_key({name: key[name] for name in ("kty", "n", "e")})
    except (JoseError, ValueError, KeyError, TypeError):
        pass
    return None


def texts(values: Any, field: str) -> tuple[str, ...]:
    """A list of texts of a client's metadata. Raises: UnusableValue."""
    if not isinstance(values, Sequence) or isinstance(values, str) or not all(isinstance(one, str) for one in values):
        raise UnusableValue(field, N_("This has to be a list of texts."))
    return tuple(dict.fromkeys(values))


def _fields(metadata: Metadata) -> dict[str, Any]:
    return {name: getattr(metadata, name) for name in Metadata.__slots__}
