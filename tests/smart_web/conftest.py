"""The pages of people over a store of the test's own: a hospital in memory, a clock that stands, and browsers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from smart_auth.app import create_auth
from smart_auth.context import Auth, DemoLogin
from smart_auth.records import Account, RoleLink
from tests.support.accounts import AuthClock
from tests.support.authorization import (  # noqa: F401 - fixtures
    audit_fixture,
    auth_fixture,
    auth_settings_fixture,
    auth_store_fixture,
    cheap_hashes,
    clock_fixture,
    notifier_fixture,
    vault_fixture,
)
from tests.support.directory import MemoryDirectory
from tests.support.records import Opener, stores

PASSWORD = "four sparrows under a roof"
PHONE = "+8613800138000"
_INPUT = re.compile(r"<input\b[^>]*>")


BASE = "https://example.org"


@dataclass
class Browser:
    """A browser without JavaScript: it keeps cookies, and sends the hidden fields of the page that it looks at."""

    client: FlaskClient
    page: TestResponse | None = None
    language: str = "en"
    history: list[int] = field(default_factory=list)

    def get(self, path: str) -> TestResponse:
        """Opens a page and follows its redirects on this server."""
        return self._arrive(self.raw(path))

    def raw(self, path: str) -> TestResponse:
        """The answer to GET, redirects not followed; the page that is shown stays."""
        answer = self.client.get(path, base_url=BASE, headers={"Accept-Language": self.language})
        answer.get_data()
        answer.close()
        return answer

    def send(self, path: str, follow: bool = True, **values: str | list[str]) -> TestResponse:
        """Sends the form of the page with this action; what is given goes above its hidden fields."""
        form = {**self.hidden(path), **values}
        answer = self.client.post(path, base_url=BASE, data=form, headers={"Accept-Language": self.language})
        return self._arrive(answer) if follow else answer

    def hidden(self, action: str) -> dict[str, str]:
        """Names and values of the hidden fields of the form with this action, else of the first form of the page."""
        assert self.page is not None
        forms = re.findall(r"<form\b(.*?)>(.*?)</form>", self.page.text, re.DOTALL)
        ours = [body for head, body in forms if f'action="{action}"' in unescape(head)]
        ours = ours or [body for head, body in forms if "action=" not in head] or [body for _head, body in forms]
        found = {}
        for tag in _INPUT.findall(ours[0]):
            values = dict(re.findall(r'([\w-]+)="([^"]*)"', tag))
            if values.get("type") == "hidden":
                found[values["name"]] = unescape(values.get("value", ""))
        return found

    def _arrive(self, answer: TestResponse) -> TestResponse:
        self.history.append(answer.status_code)
        for _ in range(6):
            target = answer.headers.get("Location", "")
            if not target.startswith("/"):
                break
            answer = self.raw(target)
            self.history.append(answer.status_code)
        self.page = answer
        return answer

    @property
    def path(self) -> str:
        """The path of the page that is shown."""
        assert self.page is not None
        return self.page.request.path

    def says(self, text: str) -> bool:
        """Whether the page shows this text."""
        assert self.page is not None
        plain = unescape(re.sub(r"<[^>]+>", " ", self.page.text))
        return text in " ".join(plain.split())

    def log_in(self, name: str, password: str = PASSWORD) -> TestResponse:
        """Goes to the login and sends name and password."""
        self.get("/login")
        return self.send("/login", name=name, password=password)


@pytest.fixture
def directory() -> MemoryDirectory:
    made = MemoryDirectory()
    made.add_patient("p1", "Chen Guoqiang", "chen")
    made.add_dependent("chen", "p2", "Chen Xiaoming", "FTH")
    made.add_staff("s1", "He Wenjing", ("p1", "p2"))
    made.add_staff("s2", "Peng Cheng")
    return made


@pytest.fixture
def open_it(tmp_path: Path, clock: AuthClock) -> Iterator[Opener]:
    """Opens one more store object on the embedded store of the test."""
    with stores("sqlite", tmp_path, clock) as opener:
        yield opener


@pytest.fixture
def app(auth: Auth) -> Flask:
    made = create_auth(auth)
    made.testing = True
    return made


@pytest.fixture
def new_browser(app: Flask, auth: Auth) -> Callable[[], Browser]:
    """Makes browsers that share nothing."""

    def make() -> Browser:
        return Browser(app.test_client())

    return make


@pytest.fixture
def browser(new_browser: Callable[[], Browser]) -> Browser:
    return new_browser()


def _link(role: str, fhir_user: str) -> RoleLink:
    return RoleLink(role=role, fhir_user=fhir_user)


@pytest.fixture
def patient(auth: Auth) -> Account:
    """chen: a patient with a verified phone, who is the father of another patient."""
    return auth.accounts.create(
        "Chen Guoqiang",
        username="chen",
        phone=PHONE,
        phone_verified=True,
        password=PASSWORD,
        person="Person/chen",
        roles=(_link("patient", "Patient/p1"),),
    )


@pytest.fixture
def doctor(auth: Auth) -> Account:
    return auth.accounts.create(
        "He Wenjing", username="doctor-he", password=PASSWORD, roles=(_link("doctor", "Practitioner/s1"),)
    )


@pytest.fixture
def administrator(auth: Auth) -> Account:
    return auth.accounts.create(
        "Peng Cheng", username="admin-peng", password=PASSWORD, roles=(_link("administrator", "Practitioner/s2"),)
    )


@pytest.fixture
def both(auth: Auth) -> Account:
    """shen: a doctor who is an administrator too."""
    roles = (_link("doctor", "Practitioner/s1"), _link("administrator", "Practitioner/s2"))
    return auth.accounts.create("Shen Li", username="shen", password=PASSWORD, roles=roles)


@pytest.fixture
def demo(auth: Auth) -> Account:
    """A demo patient whom the page /start knows."""
    made = auth.accounts.create(
        "Demo Chen",
        username="patient-demo",
        password=PASSWORD,
        person="Person/chen",
        roles=(_link("patient", "Patient/p1"),),
        demo=True,
    )
    auth.demo = lambda: [DemoLogin("patient-demo", PASSWORD, "Demo Chen", ("patient",))]
    return made
