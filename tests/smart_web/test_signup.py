"""Making an account and getting back into one. Kernel K1."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from smart_auth.context import Auth, AuthSettings
from smart_auth.records import Account, Session
from tests.smart_web.conftest import PASSWORD, PHONE, Browser
from tests.support.accounts import RecordingNotifier
from tests.support.directory import MemoryDirectory

NEW = "+8613912345678"


def fill(browser: Browser, code: str, **values: str) -> None:
    form = {"code": code, "name": "Li Na", "password": PASSWORD, "again": PASSWORD, "privacy": "y", **values}
    browser.send("/register/account", **form)


def test_patient_registers_and_is_logged_in(
    browser: Browser, auth: Auth, notifier: RecordingNotifier, directory: MemoryDirectory
) -> None:
    browser.get("/register")
    browser.send("/register", phone="139 1234 5678")
    fill(browser, notifier.code(NEW))
    assert browser.path == "/account"
    assert browser.says("Welcome. Your account is ready.")
    assert directory.registered == ["Li Na"]
    account = auth.accounts.by_login(NEW)
    assert account is not None
    assert [link.role for link in account.roles] == ["patient"]
    assert account.locale == "en"


def test_registration_leads_back_to_the_app_that_waits(browser: Browser, notifier: RecordingNotifier) -> None:
    browser.get("/register?next=/account/apps")
    browser.send("/register", phone=NEW)
    fill(browser, notifier.code(NEW))
    assert browser.path == "/account/apps"


def test_taken_phone_number_is_answered_alike(
    new_browser: Callable[[], Browser], patient: Account, notifier: RecordingNotifier
) -> None:
    seen = []
    for phone in (PHONE, NEW):
        browser = new_browser()
        browser.get("/register")
        answer = browser.send("/register", phone=phone)
        seen.append((answer.status_code, browser.says("A message was sent to this number.")))
        fill(browser, "000000")
        assert browser.says("This code is not right or no longer valid.")
    assert seen == [(200, True), (200, True)]
    assert "already has an account" in next(one.text for one in notifier.sent if one.to == PHONE)


def test_privacy_notice_has_to_be_accepted(browser: Browser, auth: Auth, notifier: RecordingNotifier) -> None:
    browser.get("/register")
    browser.send("/register", phone=NEW)
    code = notifier.code(NEW)
    fill(browser, code, privacy="")
    assert browser.says("Without this there can be no account.")
    assert auth.accounts.by_login(NEW) is None
    fill(browser, code)
    assert browser.path == "/account"


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"password": "short", "again": "short"}, "A password has at least 10 characters."),
        ({"password": "password123", "again": "password123"}, "This password is on lists of stolen passwords."),
        ({"again": "another one here"}, "The two passwords are not the same."),
        ({"code": "12"}, "The code has six digits."),
        ({"name": " "}, "Enter a name of at most 100 characters."),
    ],
)
def test_what_is_wrong_is_said_beside_its_field(
    browser: Browser, notifier: RecordingNotifier, values: dict[str, str], text: str
) -> None:
    browser.get("/register")
    browser.send("/register", phone=NEW)
    fill(browser, **{"code": notifier.code(NEW), **values})
    assert browser.page is not None
    assert browser.page.status_code == 400
    assert browser.says(text)


def test_number_that_is_none_is_refused(browser: Browser) -> None:
    browser.get("/register")
    assert browser.send("/register", phone="12345").status_code == 400
    assert browser.says("Enter a mobile phone number.")


class TestWhereTheHospitalMakesAccounts:
    @pytest.fixture
    def auth_settings(self) -> AuthSettings:
        return AuthSettings(issuer="https://example.org", base_url="https://example.org/fhir", self_registration=False)

    def test_nobody_registers(self, browser: Browser) -> None:
        browser.get("/register")
        assert browser.says("Accounts are made by the hospital.")


def test_forgotten_password_is_set_anew_and_ends_sessions(
    browser: Browser, new_browser: Callable[[], Browser], auth: Auth, patient: Account, notifier: RecordingNotifier
) -> None:
    elsewhere = new_browser()
    elsewhere.log_in("chen")
    assert auth.store.find(Session, account=patient.id)
    browser.get("/forgot")
    browser.send("/forgot", contact="13800138000")
    fresh = "nine quiet herons fishing"
    browser.send("/forgot/password", code=notifier.code(PHONE), password=fresh, again=fresh)
    assert browser.path == "/login"
    assert browser.says("Your password is changed")
    assert auth.store.find(Session, account=patient.id) == []
    browser.send("/login", name="chen", password=fresh)
    assert browser.path == "/account"


def test_unknown_contact_is_answered_alike(
    new_browser: Callable[[], Browser], patient: Account, notifier: RecordingNotifier
) -> None:
    for contact in ("13800138000", "nobody@example.com"):
        browser = new_browser()
        browser.get("/forgot")
        assert browser.send("/forgot", contact=contact).status_code == 200
        assert browser.says("a code of six digits is on its way")
        browser.send("/forgot/password", code="000000", password=PASSWORD + " x", again=PASSWORD + " x")
        assert browser.says("This code is not right or no longer valid.")
    assert {one.to for one in notifier.sent} == {PHONE}


@pytest.mark.parametrize("path", ["/register/account", "/forgot/password"])
def test_reload_of_a_later_step_begins_again(browser: Browser, path: str) -> None:
    assert browser.get(path).status_code == 200
    assert browser.path in ("/register", "/forgot")


def test_codes_are_not_sent_without_end(browser: Browser, patient: Account) -> None:
    browser.get("/forgot")
    browser.send("/forgot", contact="13800138000")
    browser.get("/forgot")
    answer = browser.send("/forgot", contact="13800138000")
    assert answer.status_code == 429
    assert answer.headers["Retry-After"] == "60"
