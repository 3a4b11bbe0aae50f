"""A hospital with people and apps, and an app that goes through an authorization as a browser and a client would.

The browser is Flask's test client with a session; its pages are read for their forms.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from flask import Flask
from flask.testing import FlaskClient
from jinja2 import BytecodeCache
from jinja2.bccache import Bucket
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey
from werkzeug.test import TestResponse

from smart_auth import keys, passwords
from smart_auth.app import create_auth
from smart_auth.context import Auth
from smart_auth.records import Account, Client, Key, RoleLink
from smart_auth.sessions import cookie_name
from tests.support.directory import MemoryDirectory

REDIRECT: Final = "https://app.example/callback"
SCOPE: Final = "launch/patient openid fhirUser offline_access patient/*.rs"
EVERYTHING: Final = (
    "launch launch/patient launch/encounter openid fhirUser profile offline_access online_access"
    " patient/*.cruds user/*.cruds patient/*.read user/*.read"
)
SECRET: Final = "correct-horse-battery-staple"
JWT_BEARER: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

EC_KEY: Final = ECKey.generate_key("P-384", {"use": "sig", "alg": "ES384", "kid": "ec"})
RSA_KEY: Final = RSAKey.generate_key(2048, {"use": "sig", "alg": "RS384", "kid": "rsa"})
KEYS: Final = {"ES384": EC_KEY, "RS384": RSA_KEY}
JWKS: Final = {"keys": [key.as_dict(private=False) for key in KEYS.values()]}


class _Forms(HTMLParser):
    """The fields of the forms of a page: hidden ones and check boxes that are ticked."""

    def __init__(self) -> None:
        super().__init__()
        self.fields: dict[str, list[str]] = {}
        self.scopes: list[str] = []
        self.patients: list[str] = []
        self.encounters: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        name, value = given.get("name"), given.get("value") or ""
        if tag != "input" or name is None:
            return
        if name == "scope":
            self.scopes.append(value)
        elif name == "patient" and given.get("type") == "radio":
            self.patients.append(value)
        elif name == "encounter" and given.get("type") == "radio":
            self.encounters.append(value)
        elif given.get("type") == "hidden":
            self.fields[name] = [value]


def form_of(response: TestResponse) -> _Forms:
    """The forms of a page."""
    found = _Forms()
    found.feed(response.get_data(as_text=True))
    return found


@dataclass
class Hospital:
    """People, apps and the application over one Auth."""

    auth: Auth
    app: Flask = field(init=False)

    def __post_init__(self) -> None:
        _ready_keys(self.auth)
        self.app = create_auth(self.auth)
        self.app.config["PREFERRED_URL_SCHEME"] = "https"
        self.app.jinja_env.bytecode_cache = _TEMPLATES
        directory = self.auth.directory
        assert isinstance(directory, MemoryDirectory)
        directory.add_patient("anna", "Anna", "anna")
        directory.add_patient("bo", "Bo", "bo")
        directory.add_dependent("bo", "child", "Little Bo")
        directory.add_staff("wang", "Dr Wang", treats=("anna",))
        directory.add_staff("admin", "Admin")
        directory.add_encounter("visit", "anna")
        self.account("anna", ("patient", "Patient/anna"), person="Person/anna")
        self.account("bo", ("patient", "Patient/bo"), person="Person/bo")
        self.account("wang", ("doctor", "Practitioner/wang"))
        self.account("admin", ("administrator", "Practitioner/admin"))
        self.client("public", "public")
        self.client("symmetric", "confidential-symmetric", secret_hash=_secret_hash())
        self.client("asymmetric", "confidential-asymmetric", jwks=JWKS)
        self.client(
            "backend", "backend", jwks=JWKS, redirect_uris=(), scope="system/*.rs", grant_types=("client_credentials",)
        )

    def account(self, id: str, *roles: tuple[str, str], person: str | None = None) -> None:
        """Adds an account with roles."""
        links = tuple(RoleLink(role=role, fhir_user=user) for role, user in roles)
        self.auth.store.put(Account(id=id, name=id.title(), username=id, roles=links, person=person))

    def client(self, id: str, type: str, **fields: Any) -> None:
        """Adds a client."""
        values = {"redirect_uris": (REDIRECT,), "scope": EVERYTHING, **fields}
        self.auth.store.put(Client(id=id, name=f"App {id}", type=type, **values))

    def browser(self, account: str | None = None, role: str | None = None, amr: tuple[str, ...] = ("pwd",)) -> Browser:
        """A browser, logged in if `account` is given, in its only role or `role`."""
        browser = Browser(self, self.app.test_client())
        if account is not None:
            browser.log_in(account, role, amr)
        return browser


class _Compiled(BytecodeCache):
    """Templates that an earlier test compiled."""

    def __init__(self) -> None:
        self.found: dict[str, bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        if bucket.key in self.found:
            bucket.bytecode_from_string(self.found[bucket.key])

    def dump_bytecode(self, bucket: Bucket) -> None:
        self.found[bucket.key] = bucket.bytecode_to_string()


_TEMPLATES: Final = _Compiled()
_SIGNING: Final[dict[str, ECKey | RSAKey]] = {}


def _ready_keys(auth: Auth) -> None:
    """Signing keys as if the server had made them now; making them takes longer than most tests."""
    if not _SIGNING:
        _SIGNING[keys.ACCESS_ALG] = ECKey.generate_key("P-256", {"use": "sig", "alg": keys.ACCESS_ALG})
        _SIGNING[keys.ID_ALG] = RSAKey.generate_key(2048, {"use": "sig", "alg": keys.ID_ALG})
    now = auth.clock()
    for alg, key in _SIGNING.items():
        key.ensure_kid()
        sealed = auth.vault.seal(json.dumps(key.as_dict(private=True)), keys.PURPOSE)
        auth.store.put(
            Key(
                id=f"{alg}-000001", alg=alg, public=dict(key.as_dict(private=False)), private=sealed,
                status_since=now, created_at=now,
            )
        )  # fmt: skip


_HASH: list[str] = []


def _secret_hash() -> str:
    """Costs a tenth of a second, once."""
    if not _HASH:
        _HASH.append(passwords.hash_password(SECRET))
    return _HASH[0]


@dataclass
class Browser:
    """A person's browser."""

    hospital: Hospital
    http: FlaskClient

    def log_in(self, account: str, role: str | None = None, amr: tuple[str, ...] = ("pwd",)) -> None:
        """Gives it a session, as the login page would."""
        auth = self.hospital.auth
        found = auth.store.get(Account, account)
        assert found is not None
        cookie, _ = auth.accounts.sessions.start(account, amr, role=role or found.roles[0].role)
        self.http.set_cookie(cookie_name(auth.settings), cookie, secure=True, httponly=True)

    def authorize(self, **params: str | None) -> TestResponse:
        """Asks for authorization and follows our own redirects: a page, or the redirect to the app or the login."""
        return self.follow(self.http.get("/oauth/authorize?" + urlencode(request_of(**params))))

    def follow(self, response: TestResponse) -> TestResponse:
        """Follows redirects to pending requests."""
        while response.status_code in (302, 303) and response.location.startswith("/oauth/request/"):
            self.at = response.location
            response = self.http.get(self.at)
        return response

    def answer(self, page: TestResponse, **fields: str | list[str]) -> TestResponse:
        """Sends the form of the page that it is at."""
        form = form_of(page)
        return self.follow(self.http.post(self.at, data={**form.fields, **fields}))

    def allow(self, page: TestResponse, scopes: list[str] | None = None, **fields: str) -> TestResponse:
        """Allows what is ticked on a consent page, or these scopes."""
        assert page.status_code == 200, page.get_data(as_text=True)
        ticked = form_of(page).scopes if scopes is None else scopes
        return self.answer(page, decision="allow", scope=ticked, **fields)

    def code(self, **params: str | None) -> str:
        """A code for a request that needs consent only."""
        response = self.authorize(**params)
        if response.status_code == 200:
            response = self.allow(response)
        return answered(response)["code"]

    def tokens(self, **params: str | None) -> dict[str, Any]:
        """A token response for such a request, of a public client."""
        response = self.exchange(self.code(**params))
        assert response.status_code == 200, response.get_data(as_text=True)
        found: dict[str, Any] = response.get_json()
        return found

    def exchange(self, code: str | None, **fields: str | None) -> TestResponse:
        """Exchanges a code as the public client, unless `fields` say otherwise; None leaves one out."""
        values = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": REDIRECT,
            "client_id": "public",
            "code_verifier": VERIFIER,
            **fields,
        }
        return self.post("/oauth/token", values)

    def refresh(self, refresh_token: str, **fields: str | None) -> TestResponse:
        """Refreshes as the public client."""
        values = {"grant_type": "refresh_token", "refresh_token": refresh_token, "client_id": "public", **fields}
        return self.post("/oauth/token", values)

    def post(self, path: str, values: dict[str, str | None], **headers: str) -> TestResponse:
        """A form, as an app sends it: without cookies."""
        data = {name: value for name, value in values.items() if value is not None}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.hospital.app.test_client(use_cookies=False).post(path, data=data, headers=named)


VERIFIER: Final = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
CHALLENGE: Final = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
"""RFC 7636 appendix B."""


def request_of(**params: str | None) -> dict[str, str]:
    """A standalone launch of the public client; None leaves a parameter out."""
    values = {
        "response_type": "code",
        "client_id": "public",
        "redirect_uri": REDIRECT,
        "scope": SCOPE,
        "state": "some-state",
        "aud": "https://example.org/fhir",
        "code_challenge": CHALLENGE,
        "code_challenge_method": "S256",
        **params,
    }
    return {name: value for name, value in values.items() if value is not None}


def answered(response: TestResponse) -> dict[str, str]:
    """The parameters that the app got at its redirect address."""
    assert response.status_code in (302, 303), response.get_data(as_text=True)
    assert response.location.startswith(REDIRECT + "?"), response.location
    return dict(parse_qsl(urlsplit(response.location).query, keep_blank_values=True))


def basic(client_id: str = "symmetric", secret: str = SECRET) -> str:
    """The Authorization header of HTTP Basic."""
    return "Basic " + base64.b64encode(f"{client_id}:{secret}".encode()).decode()


def assertion(
    auth: Auth, client_id: str, alg: str = "ES384", header: dict[str, Any] | None = None, **claims: Any
) -> dict[str, str]:
    """The parameters of private_key_jwt; None leaves a claim or header out."""
    key = KEYS[alg]
    head = {"alg": alg, "kid": key.kid, "typ": "JWT", **(header or {})}
    body = {
        "iss": client_id,
        "sub": client_id,
        "aud": auth.settings.issuer + "/oauth/token",
        "exp": auth.clock() + 300,
        "jti": secrets.token_urlsafe(12),
        **claims,
    }
    head, body = ({name: value for name, value in one.items() if value is not None} for one in (head, body))
    signed = jwt.encode(head, body, key, [alg], default_type=None)
    return {"client_assertion_type": JWT_BEARER, "client_assertion": signed}


def parts(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims of a JWT, not verified."""
    header, body, _ = token.split(".")
    head, claims = (json.loads(base64.urlsafe_b64decode(one + "=" * (-len(one) % 4))) for one in (header, body))
    return head, claims


def hs256(header: dict[str, Any], claims: dict[str, Any], secret: bytes) -> str:
    """A JWT signed with a shared secret, such as a public key that a careless verifier takes for one."""
    signed = ".".join(
        base64.urlsafe_b64encode(json.dumps(one).encode()).rstrip(b"=").decode() for one in (header, claims)
    )
    mac = hmac.digest(secret, signed.encode(), "sha256")
    return f"{signed}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def s256(verifier: str) -> str:
    """RFC 7636 section 4.2."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
