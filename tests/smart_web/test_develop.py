"""The outbox and the page that logs in as each demo role."""

from __future__ import annotations

import re

from smart_auth.clients import Clients, Metadata
from smart_auth.context import Auth
from smart_auth.notify import Outbox
from smart_auth.records import Account, Launch
from tests.smart_web.conftest import BASE, Browser


def sample_app(auth: Auth) -> None:
    metadata = Metadata(
        "Sample", "public", (f"{BASE}/sample-app/index.html",), launch_uri=f"{BASE}/sample-app/launch.html"
    )
    Clients(auth).create(metadata, client_id="sample-app")


def test_outbox_shows_what_was_sent(browser: Browser, auth: Auth) -> None:
    browser.get("/outbox")
    assert browser.says("Nothing was sent yet.")
    outbox = Outbox(auth.store, auth.vault, production=False, clock=auth.clock)
    outbox.send("sms", "+8613800138000", "Code", "Your code is 123456. <b>")
    page = browser.get("/outbox")
    assert browser.says("Your code is 123456.")
    assert "123456. <b>" not in page.text


def test_one_button_logs_in_as_a_demo_role(browser: Browser, auth: Auth, demo: Account) -> None:
    sample_app(auth)
    browser.get("/start")
    assert browser.says("Log in as Demo Chen")
    browser.send("/start/login", username="patient-demo", role="patient")
    assert browser.path == "/start"
    assert browser.says("You are logged in as Demo Chen.")
    assert f'href="{BASE}/sample-app/index.html"' in browser.get("/start").text


def test_button_is_for_demo_accounts_only(browser: Browser, auth: Auth, demo: Account, patient: Account) -> None:
    browser.get("/start")
    for values in ({"username": "chen", "role": "patient"}, {"username": "patient-demo", "role": "administrator"}):
        assert browser.send("/start/login", **values).status_code == 404
        browser.get("/start")
    assert browser.raw("/account").status_code == 303


def test_page_without_demo_says_so(browser: Browser) -> None:
    browser.get("/start")
    assert browser.says("There are no demo accounts here.")


def test_sample_app_is_launched_for_a_patient(browser: Browser, auth: Auth, doctor: Account) -> None:
    sample_app(auth)
    browser.log_in("doctor-he")
    page = browser.get("/start/launch")
    assert re.findall(r'name="patient" value="(\w+)"', page.text) == ["p1", "p2"]
    page = browser.send("/start/launch", text="Xiaoming")
    assert re.findall(r'name="patient" value="(\w+)"', page.text) == ["p2"]
    answer = browser.send("/start/launch", follow=False, patient="p2", go="1")
    target = answer.headers["Location"]
    assert target.startswith(f"{BASE}/sample-app/launch.html?iss=https%3A%2F%2Fexample.org%2Ffhir&launch=")
    assert "p2" not in target
    launch = auth.store.page(Launch)[0]
    assert (launch.patient, launch.role, launch.client) == ("p2", "doctor", "sample-app")


def test_launch_for_somebody_who_is_not_listed_is_refused(browser: Browser, auth: Auth, patient: Account) -> None:
    sample_app(auth)
    browser.log_in("chen")
    browser.get("/start/launch")
    assert browser.send("/start/launch", patient="p9", go="1").status_code == 400
    assert auth.store.page(Launch) == []
