"""One running server with the demo hospital, as `hestia serve` makes it, for clients that know nothing of Hestia."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import ConsoleMessage, Page, sync_playwright

from tests.support import mongodb
from tests.support.browser import Browser
from tests.support.chromium import executable
from tests.support.command_line import Serving, environment, mongo_uri


@dataclass
class Demo:
    """The running server, and what `hestia demo --json` says of it."""

    base: str
    auth: str
    directory: Path
    store: str
    described: dict[str, Any] = field(default_factory=dict)

    def account(self, role: str, number: int = 0) -> dict[str, Any]:
        """An account that holds only this role."""
        return [one for one in self.described["accounts"] if one["roles"] == [role]][number]

    def client(self, client_id: str) -> dict[str, Any]:
        """A registered client."""
        return next(one for one in self.described["clients"] if one["client_id"] == client_id)

    def hestia(self, *arguments: str) -> str:
        """What a `hestia` command prints for this store."""
        done = subprocess.run(
            [sys.executable, "-m", "hestia", *arguments],
            cwd=self.directory,
            env=environment({"HESTIA_STORE": self.store, "HESTIA_BASE_URL": self.base}),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def token(self, name: str, *more: str) -> str:
        """A token of the command line."""
        return self.hestia("token", "--as", name, *more)


@pytest.fixture(scope="package", params=["sqlite", "mongo"])
def demo(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """The demo hospital on each store."""
    directory = tmp_path_factory.mktemp("demo")
    # A database server of its own: the one of the test run is slow once it holds hundreds of databases.
    private = mongodb.start(private=True) if request.param == "mongo" else None
    store = f"sqlite:///{directory / 'store.db'}" if private is None else mongo_uri("hestia_demo", private)
    try:
        with Serving(directory, store, small_demo=True, auth="on") as serving:
            serving.ready(180)
            found = Demo(serving.base, serving.base.removesuffix("/fhir"), directory, store)
            found.described = json.loads(found.hestia("demo", "--json"))
            yield found
    finally:
        if private is not None:
            private.stop()


def unexpected(message: ConsoleMessage) -> bool:
    """Chromium writes of every answer with 401, though the app expects it."""
    return message.type == "error" and "status of 401" not in message.text


@pytest.fixture
def page() -> Iterator[Page]:
    """A page in which nothing goes wrong unnoticed: errors of scripts and of the content policy fail the test."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable(), args=["--no-sandbox"])
        page = browser.new_context(locale="zh-CN").new_page()
        wrong: list[str] = []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: wrong.append(message.text) if unexpected(message) else None)
        yield page
        browser.close()
        assert wrong == []


Allow = Callable[..., str]


def go_through(browser: Browser, account: dict[str, Any]) -> str:
    """Logs in on the page that a browser is at, chooses the first patient and the first visit if asked, and allows what
    is ticked. Returns the address that the app gets.
    """
    browser.log_in(account["username"], account["password"])
    for _ in range(4):
        if browser.left:
            return browser.url
        names = {name for form in browser.forms() for name in (*form.choices, *form.values)}
        chosen = next((name for name in ("patient", "encounter") if name in names), None)
        if chosen is not None:
            form = browser.form_with(chosen)
            browser.submit(form, **{chosen: form.choices[chosen][0]})
        else:
            browser.submit(browser.form_with("decision"), decision="allow")
    assert browser.left, f"{browser.status} at {browser.url.partition('?')[0]}"
    return browser.url


@pytest.fixture
def allow() -> Allow:
    """Does what a person does in a browser: logs in, chooses, allows. Returns the address that the app gets."""

    def work(authorize_url: str, account: dict[str, Any], redirect_uri: str) -> str:
        with Browser(redirect_uri) as browser:
            return go_through(browser.open(authorize_url), account)

    return work
