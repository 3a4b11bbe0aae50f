"""Who can log in to the demo hospital, and which apps it knows: made with the demo data, marked, never in production.

Passwords, client secrets and keys are drawn at random for each installation and kept sealed in the store of records, so
that `hestia demo --json` can tell a conformance tool how to log in.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import msgspec
import pyotp
from joserfc.jwk import ECKey, RSAKey

from fhir_server.authorize import EVERYTHING
from fhir_server.context import RequestContext, Server
from fhir_server.repository import Repository, Write
from hestia.composition import Lease
from seed.logins import Login, logins
from smart_auth import passwords
from smart_auth.accounts import TOTP_PURPOSE, normal_phone
from smart_auth.context import Auth, DemoLogin
from smart_auth.records import Account, Client, OneTime, RoleLink

JSON = dict[str, Any]

RECORD: Final = "demo-access"
PURPOSE: Final = "demo"
SEALED_RECORDS: Final = {RECORD: PURPOSE}
"""Ids of the OneTime records whose `sealed` is sealed, and for what."""
SAMPLE_APP: Final = "sample-app"
_SECOND_FACTOR: Final = ("doctor-wang",)
"""Demo accounts with a second factor."""

_APP_SCOPES: Final = (
    "launch launch/patient launch/encounter openid fhirUser profile offline_access online_access"
    " patient/*.cruds user/*.cruds patient/*.read patient/*.write patient/*.* user/*.read user/*.write user/*.*"
)
_CALLBACKS: Final = (
    "http://127.0.0.1:8123/callback",
    "http://localhost:8123/callback",
    *(
        f"http://localhost{port}/custom/{suite}/redirect"
        for port in ("", ":4567")
        for suite in ("smart_stu2_2", "smart_stu2", "smart")
    ),
)
"""Where a tool of one's own takes the code, and Inferno's suites STU2.2, STU2, and STU1 with (g)(10)."""
_LAUNCH: Final = "http://localhost/custom/smart_stu2_2/launch"


def ensure_access(server: Server, auth: Auth, resources: Callable[[], Iterable[JSON]]) -> bool:
    """Makes the demo's people, accounts and clients once; True when it did. `resources` gives those of the demo,
    Patient and RelatedPerson at least.
    """
    if auth.store.get(OneTime, RECORD) is not None:
        return False
    with Lease(server.store, RECORD):
        if auth.store.get(OneTime, RECORD) is not None:
            return False
        remove(auth)  # of a restored backup: the accounts without the record of their passwords
        people = logins(resources())
        repository = Repository(server, RequestContext(EVERYTHING))
        repository.execute([Write("update", "Person", one.person["id"], resource=one.person) for one in people])
        made = {
            "accounts": [_account(auth, one) for one in people],
            "clients": [_client(auth, spec) for spec in _clients(auth.settings.issuer)],
        }
        auth.store.put(
            OneTime(id=RECORD, value={"sealed": auth.vault.seal(json.dumps(made), PURPOSE)}, created_at=auth.clock())
        )
    return True


def follow_issuer(auth: Auth) -> None:
    """Lets the sample app, which this server serves itself, be where the server is now: its port may have changed."""
    issuer = auth.settings.issuer

    def change(found: Client) -> Client | None:
        uris = (f"{issuer}/sample-app/index.html",)
        if found.redirect_uris == uris:
            return None
        return msgspec.structs.replace(found, redirect_uris=uris, launch_uri=f"{issuer}/sample-app/launch.html")

    auth.store.change(Client, SAMPLE_APP, change)


def _account(auth: Auth, login: Login) -> JSON:
    now = auth.clock()
    password = f"{secrets.token_urlsafe(9)}-{secrets.randbelow(9000) + 1000}"
    totp = pyotp.random_base32() if login.username in _SECOND_FACTOR else None
    phone = normal_phone(login.phone) if login.phone else None
    account = Account(
        id=secrets.token_hex(12),
        username=login.username,
        name=login.name,
        phone=auth.vault.seal_exact(phone, "phone") if phone else None,
        phone_verified=phone is not None,
        person=f"Person/{login.person['id']}",
        roles=tuple(RoleLink(role=role, fhir_user=user, granted_at=now) for role, user in login.roles),
        password_hash=passwords.hash_password(password),
        password_changed_at=now,
        totp_secret=auth.vault.seal(totp, TOTP_PURPOSE) if totp else None,
        demo=True,
        created_at=now,
        updated_at=now,
    )
    auth.store.put(account)
    user = login.roles[0][1]
    return {
        "username": login.username,
        "password": password,
        "name": login.name,
        "roles": [role for role, _ in login.roles],
        "fhirUser": user,
        "patient": user.removeprefix("Patient/") if user.startswith("Patient/") else None,
        "patients": [one.removeprefix("Patient/") for one in ((user,) if user.startswith("Patient/") else ())]
        + [one.removeprefix("Patient/") for one in login.dependents],
        "totp_secret": totp,
    }


def _clients(issuer: str) -> list[JSON]:
    return [
        {
            "client_id": SAMPLE_APP,
            "name": "Sample SMART app",
            "type": "public",
            "redirect_uris": [f"{issuer}/sample-app/index.html"],
            "launch_uri": f"{issuer}/sample-app/launch.html",
            "scope": _APP_SCOPES,
        },
        {
            "client_id": "demo-public",
            "name": "Demo app (public)",
            "type": "public",
            "redirect_uris": list(_CALLBACKS),
            "launch_uri": _LAUNCH,
            "scope": _APP_SCOPES,
        },
        {
            "client_id": "demo-symmetric",
            "name": "Demo app (confidential, secret)",
            "type": "confidential-symmetric",
            "redirect_uris": list(_CALLBACKS),
            "launch_uri": _LAUNCH,
            "scope": _APP_SCOPES,
        },
        {
            "client_id": "demo-asymmetric",
            "name": "Demo app (confidential, keys)",
            "type": "confidential-asymmetric",
            "alg": "ES384",
            "redirect_uris": list(_CALLBACKS),
            "launch_uri": _LAUNCH,
            "scope": _APP_SCOPES,
        },
        {
            "client_id": "demo-backend-read",
            "name": "Demo back end (reads)",
            "type": "backend",
            "alg": "RS384",
            "redirect_uris": [],
            "scope": "system/*.rs",
        },
        {
            "client_id": "demo-backend-write",
            "name": "Demo back end (reads and writes)",
            "type": "backend",
            "alg": "ES384",
            "redirect_uris": [],
            "scope": "system/*.cruds",
        },
    ]


def _client(auth: Auth, spec: JSON) -> JSON:
    shown = {name: spec[name] for name in ("client_id", "name", "type", "redirect_uris", "scope")}
    secret_hash, jwks = None, None
    if spec["type"] == "confidential-symmetric":
        secret = secrets.token_urlsafe(32)
        secret_hash = passwords.hash_password(secret)
        shown["client_secret"] = secret
    elif "alg" in spec:
        kid = f"{spec['client_id']}-1"
        about: Any = {"kid": kid, "alg": spec["alg"], "use": "sig"}
        key = ECKey.generate_key("P-384", about) if spec["alg"] == "ES384" else RSAKey.generate_key(3072, about)
        jwks = {"keys": [key.as_dict(private=False)]}
        shown |= {"kid": kid, "alg": spec["alg"], "private_key": key.as_pem(private=True).decode("ascii")}
    backend = spec["type"] == "backend"
    auth.store.put(
        Client(
            id=spec["client_id"],
            name=spec["name"],
            type=spec["type"],
            secret_hash=secret_hash,
            jwks=jwks,
            redirect_uris=tuple(spec["redirect_uris"]),
            launch_uri=spec.get("launch_uri"),
            scope=spec["scope"],
            grant_types=("client_credentials",) if backend else ("authorization_code", "refresh_token"),
            demo=True,
            created_at=auth.clock(),
            updated_at=auth.clock(),
        )
    )
    return shown


def known(auth: Auth) -> JSON | None:
    """What was made, secrets included; None when there is no demo access. Keys as PEM in `private_key`."""
    record = auth.store.get(OneTime, RECORD)
    if record is None or auth.settings.production:
        return None
    found: JSON = json.loads(auth.vault.unseal(record.value["sealed"], PURPOSE))
    return found


def people(auth: Auth) -> list[DemoLogin]:
    """The demo accounts, for the page that logs in as each role."""
    return [
        DemoLogin(one["username"], one["password"], one["name"], tuple(one["roles"]), one["totp_secret"])
        for one in (known(auth) or {"accounts": ()})["accounts"]
    ]


def describe(auth: Auth, data: Path) -> JSON | None:
    """What `hestia demo --json` prints: base, auth, accounts and clients. Private keys are in files below `data`."""
    found = known(auth)
    if found is None:
        return None
    clients = []
    for client in found["clients"]:
        shown = {name: value for name, value in client.items() if name != "private_key"}
        registered = auth.store.get(Client, client["client_id"])
        if registered is not None:
            shown["redirect_uris"] = list(registered.redirect_uris)
        if "private_key" in client:
            shown |= _key_files(data, client)
        clients.append(shown)
    return {
        "base": auth.settings.base_url,
        "auth": auth.settings.issuer,
        "accounts": found["accounts"],
        "clients": clients,
    }


def _key_files(data: Path, client: JSON) -> JSON:
    """Writes a client's private key as PEM, and as the JWK set that some tools want; only their owner can read them."""
    directory = data / "demo-keys"
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    pem = client["private_key"]
    about: Any = {"kid": client["kid"], "alg": client["alg"], "use": "sig"}
    key = (ECKey if client["alg"].startswith("ES") else RSAKey).import_key(pem, about)
    jwks = json.dumps({"keys": [{**key.as_dict(private=True), "key_ops": ["sign"]}]}, indent=1)
    return {
        "private_key_file": _written(directory / f"{client['client_id']}.pem", pem),
        "private_jwks_file": _written(directory / f"{client['client_id']}.jwks.json", jwks),
    }


def _written(path: Path, text: str) -> str:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text)
    return str(path.resolve())


def _made(auth: Auth) -> list[Account | Client]:
    """Every account and client of the demo."""
    found: list[Account | Client] = []
    kinds: tuple[type[Account] | type[Client], ...] = (Account, Client)
    for kind in kinds:
        after = ""
        while page := auth.store.page(kind, after=after):
            found += [one for one in page if one.demo]
            after = page[-1].id
    return found


def demo_accounts(auth: Auth) -> bool:
    """Whether there is an account or a client of the demo."""
    return bool(_made(auth))


def remove(auth: Auth) -> int:
    """Removes every demo account and client (production); returns how many there were."""
    removed = sum(auth.store.delete(type(one), one.id) for one in _made(auth))
    auth.store.delete(OneTime, RECORD)
    return removed
