"""The requests that Inferno's SMART App Launch Test Kit makes, by a client of our own, and everything that came back.

Nothing is judged here. Names of Inferno's inputs are kept: `standalone_smart_auth_info` has `auth_type`, `client_id`,
`auth_request_method` and so on.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx
from joserfc import jws, jwt
from joserfc.jwk import ECKey, RSAKey

from tests.clients.conftest import Demo, go_through
from tests.support.browser import Browser, Form

JSON = dict[str, Any]

ORIGIN: Final = "http://localhost:4567"
"""Where Inferno runs without a proxy: `inferno_host`, which it sends as Origin."""
SUITE: Final = f"{ORIGIN}/custom/smart_stu2_2"
REDIRECT: Final = f"{SUITE}/redirect"
JWT_BEARER: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
FORM: Final = {"Content-Type": "application/x-www-form-urlencoded"}
STANDALONE: Final = "launch/patient openid fhirUser offline_access patient/*.rs"
EHR: Final = "launch openid fhirUser offline_access user/*.rs"
"""The scopes that the groups ask for unless they are told otherwise."""

_Test = TypeVar("_Test", bound=Callable[..., None])


class Followed:
    """Which tests of Inferno are followed by which of ours. An id is that of the group and that of the test."""

    def __init__(self) -> None:
        self.ids: set[str] = set()

    def __call__(self, *ids: str) -> Callable[[_Test], _Test]:
        def mark(test: _Test) -> _Test:
            self.ids.update(ids)
            return test

        return mark


@dataclass(frozen=True)
class AuthInfo:
    """An input of the type `auth_info`. `who` is the account that logs in; `launch` what an EHR launch is made of."""

    client_id: str
    auth_type: str
    who: str
    requested_scopes: str = STANDALONE
    auth_request_method: str = "GET"
    launch: JSON | None = None


class Client:
    """A registered client, as `hestia demo --json` describes it, that proves itself in one of the four ways."""

    def __init__(self, described: JSON, auth_type: str) -> None:
        self.id: str = described["client_id"]
        self.auth_type = auth_type
        self._described = described

    @cached_property
    def key(self) -> ECKey | RSAKey:
        """The private key of the JWK set that one gives to Inferno, chosen as Inferno chooses it."""
        keys = json.loads(Path(self._described["private_jwks_file"]).read_text())["keys"]
        signing = [one for one in keys if "sign" in one.get("key_ops", ()) and one["alg"] == self._described["alg"]]
        found = next(one for one in signing if one["kid"] == self._described["kid"])
        return (ECKey if found["kty"] == "EC" else RSAKey).import_key(found)

    def assertion(self, token_url: str, key: ECKey | RSAKey | None = None, **claims: Any) -> str:
        """A client assertion. `claims` replace its own; one that is None is left out."""
        values = {
            "iss": self.id,
            "sub": self.id,
            "aud": token_url,
            "exp": int(time.time()) + 300,
            "jti": secrets.token_hex(32),
            **claims,
        }
        alg = self._described["alg"]
        header = {"alg": alg, "kid": self._described["kid"], "typ": "JWT"}
        present = {name: value for name, value in values.items() if value is not None}
        return jwt.encode(header, present, key or self.key, algorithms=[alg])

    def proof(self, token_url: str) -> tuple[dict[str, str], dict[str, str]]:
        """The headers and the form fields that name and prove the client."""
        if self.auth_type == "symmetric":
            return {"Authorization": self.basic}, {}
        if self.auth_type == "public":
            return {}, {"client_id": self.id}
        return {}, {"client_assertion_type": JWT_BEARER, "client_assertion": self.assertion(token_url)}

    @property
    def basic(self) -> str:
        """HTTP Basic, neither part encoded for a form first."""
        credentials = f"{self.id}:{self._described['client_secret']}"
        return "Basic " + base64.b64encode(credentials.encode()).decode()


@dataclass
class Discovered:
    """What a server says about itself, asked with Inferno's Origin."""

    url: str
    well_known: httpx.Response
    metadata: httpx.Response

    @classmethod
    def of(cls, url: str) -> Discovered:
        with httpx.Client(headers={"Origin": ORIGIN}, timeout=60) as http:
            return cls(
                url,
                http.get(f"{url}/.well-known/smart-configuration", headers={"Accept": "application/json"}),
                http.get(f"{url}/metadata", headers={"Accept": "application/fhir+json"}),
            )

    @property
    def configuration(self) -> JSON:
        found: JSON = self.well_known.json()
        return found

    @property
    def token_url(self) -> str:
        return str(self.configuration["token_endpoint"])


@dataclass
class Session:
    """One run of a launch group: the launch, the redirect with the code, and the token response."""

    discovered: Discovered
    info: AuthInfo
    client: Client
    launch: dict[str, str] = field(default_factory=dict)
    state: str = ""
    challenge: str = ""
    redirect: dict[str, str] = field(default_factory=dict)
    token: httpx.Response = field(default_factory=lambda: httpx.Response(0))
    _verifier: str = ""

    @property
    def url(self) -> str:
        return self.discovered.url

    @property
    def tokens(self) -> JSON:
        """The token response, of a token request that succeeded."""
        assert self.token.status_code == 200, self.token.text
        found: JSON = self.token.json()
        return found

    def ehr_launch(self, launch_url: str) -> None:
        """The browser is sent to the launch address of the suite."""
        assert launch_url.partition("?")[0].endswith("/custom/smart_stu2_2/launch")
        self.launch = dict(parse_qsl(urlsplit(launch_url).query, keep_blank_values=True))

    def ask(self, go_through: Callable[[Browser], str] | None, **changed: str) -> None:
        """Asks for a code, by GET or by the form that Inferno's page sends. `changed`: other parameters than Inferno's
        own. Without `go_through` the answer has to be the redirect itself.
        """
        self._verifier = f"{uuid.uuid4()}-{uuid.uuid4()}"
        digest = hashlib.sha256(self._verifier.encode()).digest()
        self.state = str(uuid.uuid4())
        self.challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        asked = {
            "response_type": "code",
            "client_id": self.client.id,
            "redirect_uri": REDIRECT,
            "scope": self.info.requested_scopes,
            "state": self.state,
            "aud": self.url,
            **({"launch": self.launch["launch"]} if self.launch else {}),
            "code_challenge": self.challenge,
            "code_challenge_method": "S256",
            **changed,
        }
        address = self.discovered.configuration["authorization_endpoint"]
        with Browser(REDIRECT) as browser:
            if self.info.auth_request_method == "POST":
                values: dict[str, str | list[str]] = {**asked}
                browser.submit(Form(address, "POST", values))
            else:
                browser.open(f"{address}?{urlencode(asked)}")
            left_for = browser.url if go_through is None else go_through(browser)
        assert left_for.startswith(REDIRECT)
        self.redirect = dict(parse_qsl(urlsplit(left_for).query, keep_blank_values=True))

    def exchange(self, **changed: str | None) -> httpx.Response:
        """Exchanges the code. `changed` replaces fields of the request; one that is None is left out."""
        fields: dict[str, str | None] = {
            "grant_type": "authorization_code",
            "code": self.redirect["code"],
            "redirect_uri": REDIRECT,
            "code_verifier": self._verifier,
            **changed,
        }
        return self.post(**{name: value for name, value in fields.items() if value is not None})

    def post(self, **fields: str) -> httpx.Response:
        """A token request of this client."""
        headers, proof = self.client.proof(self.discovered.token_url)
        return httpx.post(
            self.discovered.token_url,
            data={**proof, **fields},
            headers={**FORM, **headers, "Origin": ORIGIN},
            timeout=60,
        )

    def read(self, relative: str) -> httpx.Response:
        """A read with the access token."""
        return get(f"{self.url}/{relative}", str(self.tokens["access_token"]))

    def search(self, resource_type: str, params: dict[str, str]) -> list[JSON]:
        """All resources of that type which a search finds, from all its pages; nothing when it is refused."""
        found: list[JSON] = []
        for page in self._pages(f"{self.url}/{resource_type}?{urlencode(params)}"):
            found += [one["resource"] for one in page.get("entry", ())]
        return [one for one in found if one["resourceType"] == resource_type]

    def _pages(self, address: str | None) -> Iterator[JSON]:
        while address is not None:
            answer = get(address, str(self.tokens["access_token"]))
            if answer.status_code != 200:
                return
            page: JSON = answer.json()
            yield page
            address = next((one["url"] for one in page.get("link", ()) if one["relation"] == "next"), None)


def get(address: str, token: str) -> httpx.Response:
    """A FHIR request of Inferno."""
    headers = {"Accept": "application/fhir+json", "Authorization": f"Bearer {token}", "Origin": ORIGIN}
    return httpx.get(address, headers=headers, timeout=60)


def unverified(token: str) -> tuple[JSON, JSON]:
    """Header and payload of a JWT."""
    found = jws.extract_compact(token.encode())
    payload: JSON = json.loads(found.payload)
    return dict(found.headers()), payload


Decide = Callable[[Browser, JSON], str]


def launched(discovered: Discovered, demo: Demo, info: AuthInfo) -> Session:
    """A session that may ask for a code: an EHR launch was made for it, if it is one."""
    session = Session(discovered, info, Client(demo.client(info.client_id), info.auth_type))
    if info.launch is not None:
        made = httpx.post(
            f"{demo.auth}/oauth/launch",
            json={"client_id": info.client_id, **info.launch},
            headers={"Authorization": f"Bearer {demo.token(info.who)}"},
            timeout=60,
        )
        assert made.status_code == 201, made.text
        session.ehr_launch(made.json()["launch_url"])
    return session


def authorized(discovered: Discovered, demo: Demo, info: AuthInfo, decide: Decide = go_through) -> Session:
    """A session that went through a launch, up to the token response."""
    session = launched(discovered, demo, info)
    session.ask(lambda browser: decide(browser, named(demo, info.who)))
    session.token = session.exchange()
    return session


def named(demo: Demo, username: str) -> JSON:
    """An account of the demo."""
    found: JSON = next(one for one in demo.described["accounts"] if one["username"] == username)
    return found


def follows_document(part: str, follows: Followed) -> None:
    """Checks that a part of docs/inferno.md names the tests of Inferno that are followed, and no others.

    The part is between comments, a row of a table for each group: the group's id, then those of its tests.
    """
    text = (Path(__file__).resolve().parents[2] / "docs" / "inferno.md").read_text(encoding="utf-8")
    rows = text.partition(f"<!-- {part} -->")[2].partition("<!-- end -->")[0].splitlines()
    cells = [found for row in rows if (found := re.findall(r"`([^`]+)`", row))]
    assert sorted(f"{group}-{test}" for group, *tests in cells for test in tests) == sorted(follows.ids)
