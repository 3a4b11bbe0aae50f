"""Logging in and out. Kernel K1; OWASP Authentication and Session Management Cheat Sheets."""

from __future__ import annotations

from collections.abc import Callable

import pyotp
import pytest

from smart_auth import limits
from smart_auth.context import Auth
from smart_auth.records import Account, Session
from tests.smart_web.conftest import PASSWORD, PHONE, Browser
from tests.support.accounts import AuthClock, RecordingAudit, RecordingNotifier

COOKIE = "__Host-hestia"


def cookie(browser: Browser) -> str | None:
    found = browser.client.get_cookie(COOKIE, domain="example.org")
    return None if found is None else found.value


def test_right_password_leads_to_the_account(browser: Browser, patient: Account, audit: RecordingAudit) -> None:
    answer = browser.log_in("chen")
    assert (answer.status_code, browser.path) == (200, "/account")
    assert browser.says("Chen Guoqiang")
    assert audit.last("login").role == "patient"
    assert audit.last("login").fhir_user == "Patient/p1"


@pytest.mark.parametrize("name", ["138 0013 8000", "+86 13800138000", "CHEN"])
def test_phone_number_and_user_name_are_read_in_any_usual_writing(
    browser: Browser, patient: Account, name: str
) -> None:
    browser.log_in(name)
    assert browser.path == "/account"


def test_wrong_password_and_unknown_account_look_alike(new_browser: Callable[[], Browser], patient: Account) -> None:
    answers = []
    for name in ("chen", "nobody"):
        browser = new_browser()
        answer = browser.log_in(name, "wrong wrong wrong")
        assert browser.says("This account or password is not right.")
        answers.append((answer.status_code, cookie(browser)))
    assert answers == [(400, None), (400, None)]


def test_password_is_not_in_the_page_again(browser: Browser, patient: Account) -> None:
    answer = browser.log_in("chen", "wrong wrong wrong")
    assert "wrong wrong wrong" not in answer.text


def test_too_many_wrong_passwords_lock_for_a_while(browser: Browser, patient: Account, clock: AuthClock) -> None:
    for _ in range(5):
        browser.log_in("chen", "wrong wrong wrong")
    browser.log_in("chen")
    assert browser.says("This account is locked for now.")
    clock.advance(901)
    browser.log_in("chen")
    assert browser.path == "/account"


def test_throttled_login_says_how_long_to_wait(browser: Browser, auth: Auth, patient: Account) -> None:
    for _ in range(limits.LOGIN_PER_ADDRESS.count):
        auth.accounts.limits.hit_address(limits.LOGIN_PER_ADDRESS, "127.0.0.1")
    answer = browser.log_in("chen")
    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) > 0
    assert browser.says("Too many attempts. Wait")


def test_session_gets_a_new_id_at_login(browser: Browser, auth: Auth, patient: Account) -> None:
    browser.log_in("chen")
    first = cookie(browser)
    assert first is not None
    browser.get("/login?again=1")
    browser.send("/login", name="chen", password=PASSWORD)
    assert cookie(browser) not in (None, first)
    assert len(auth.store.find(Session, account=patient.id)) == 1


def test_planted_session_cookie_is_not_taken_over(browser: Browser, patient: Account) -> None:
    browser.client.set_cookie(COOKIE, "planted", domain="example.org")
    browser.log_in("chen")
    assert cookie(browser) != "planted"


def test_cookies_are_for_this_host_tls_and_no_script(browser: Browser, patient: Account) -> None:
    browser.get("/login")
    answer = browser.send("/login", follow=False, name="chen", password=PASSWORD)
    cookies = answer.headers.getlist("Set-Cookie")
    assert {one.split("=")[0] for one in cookies} == {COOKIE, "__Host-hestia-form"}
    for one in cookies:
        for attribute in ("Secure", "HttpOnly", "SameSite=Lax", "Path=/"):
            assert attribute in one
        assert "Domain" not in one


def test_code_to_the_phone_logs_in(browser: Browser, patient: Account, notifier: RecordingNotifier) -> None:
    browser.get("/login/code")
    browser.send("/login/code", phone="13800138000")
    browser.send("/login/code/check", code=notifier.code(PHONE))
    assert browser.path == "/account"


def test_code_for_an_unknown_phone_is_answered_alike(
    new_browser: Callable[[], Browser], patient: Account, notifier: RecordingNotifier
) -> None:
    pages = []
    for phone in ("13800138000", "13900139000"):
        browser = new_browser()
        browser.get("/login/code")
        answer = browser.send("/login/code", phone=phone)
        assert answer.status_code == 200
        pages.append(browser.says("a code of six digits is on its way"))
        browser.send("/login/code/check", code="000000")
        assert browser.says("This code is not right or no longer valid.")
    assert pages == [True, True]
    assert {one.to for one in notifier.sent} == {PHONE}


def test_phone_number_is_in_no_address(browser: Browser, patient: Account, notifier: RecordingNotifier) -> None:
    browser.get("/login/code")
    browser.send("/login/code", phone="13800138000")
    assert browser.page is not None
    assert "13800138000" not in browser.page.request.url
    assert browser.hidden("/login/code/check")["phone"] == "13800138000"


def second_factor(auth: Auth, account: Account, clock: AuthClock) -> tuple[pyotp.TOTP, list[str]]:
    secret, _uri = auth.accounts.second_factor.enrol(account.id)
    totp = pyotp.TOTP(secret)
    codes = auth.accounts.second_factor.confirm(account.id, totp.at(clock()))
    clock.advance(30)
    return totp, codes


def test_second_factor_is_asked_for_before_there_is_a_session(
    browser: Browser, auth: Auth, doctor: Account, clock: AuthClock
) -> None:
    totp, _codes = second_factor(auth, doctor, clock)
    browser.log_in("doctor-he")
    assert browser.path == "/login/second"
    assert cookie(browser) is None
    assert browser.raw("/account").headers["Location"].startswith("/login")
    browser.send("/login/second", code="000000")
    assert browser.says("This code is not right or no longer valid.")
    browser.send("/login/second", code=totp.at(clock()))
    assert browser.path == "/account"
    assert auth.store.find(Session, account=doctor.id)[0].amr == ("pwd", "otp", "mfa")


def test_recovery_code_works_once(browser: Browser, auth: Auth, doctor: Account, clock: AuthClock) -> None:
    _totp, codes = second_factor(auth, doctor, clock)
    for expected in ("/account", "/login/second"):
        browser.client.delete_cookie(COOKIE, domain="example.org")
        browser.log_in("doctor-he")
        browser.send("/login/second", code=codes[0])
        assert browser.path == expected


def test_step_of_a_login_ends_after_ten_minutes(
    browser: Browser, auth: Auth, doctor: Account, clock: AuthClock
) -> None:
    totp, _codes = second_factor(auth, doctor, clock)
    browser.log_in("doctor-he")
    clock.advance(601)
    browser.send("/login/second", code=totp.at(clock()))
    assert browser.path == "/login"


def test_second_factor_is_asked_for_after_a_code_too(
    browser: Browser, auth: Auth, patient: Account, clock: AuthClock, notifier: RecordingNotifier
) -> None:
    second_factor(auth, patient, clock)
    browser.get("/login/code")
    browser.send("/login/code", phone="13800138000")
    browser.send("/login/code/check", code=notifier.code(PHONE))
    assert browser.path == "/login/second"


def test_given_password_has_to_be_changed_first(browser: Browser, auth: Auth, doctor: Account) -> None:
    given = auth.accounts.give_password(doctor.id, by="test")
    browser.log_in("doctor-he", given)
    assert browser.path == "/login/password"
    assert cookie(browser) is None
    browser.send("/login/password", password="password12", again="password12")
    assert browser.says("This password is")
    browser.send("/login/password", password="nine quiet herons fishing", again="nine quiet cranes fishing")
    assert browser.says("The two passwords are not the same.")
    browser.send("/login/password", password="nine quiet herons fishing", again="nine quiet herons fishing")
    assert browser.path == "/account"
    browser.log_in("doctor-he", given)
    assert browser.says("This account or password is not right.")
    other = auth.accounts.authenticate("doctor-he", "nine quiet herons fishing")
    assert other.id == doctor.id


def test_second_factor_comes_before_a_given_password_is_changed(
    browser: Browser, auth: Auth, doctor: Account, clock: AuthClock
) -> None:
    totp, _codes = second_factor(auth, doctor, clock)
    given = auth.accounts.give_password(doctor.id, by="test")
    browser.log_in("doctor-he", given)
    assert browser.path == "/login/second"
    assert browser.raw("/login/password").headers["Location"] == "/login"
    browser.send("/login/second", code=totp.at(clock()))
    assert browser.path == "/login/password"
    assert cookie(browser) is None


def test_given_password_is_changed_after_a_login_by_code_too(
    browser: Browser, auth: Auth, patient: Account, notifier: RecordingNotifier
) -> None:
    auth.accounts.give_password(patient.id, by="test")
    browser.get("/login/code")
    browser.send("/login/code", phone="13800138000")
    browser.send("/login/code/check", code=notifier.code(PHONE))
    assert browser.path == "/login/password"


def test_person_with_several_roles_chooses_one(browser: Browser, auth: Auth, both: Account) -> None:
    browser.log_in("shen")
    assert browser.path == "/login/role"
    before = cookie(browser)
    assert browser.raw("/admin").headers["Location"].startswith("/login/role")
    browser.send("/login/role", role="patient")
    assert browser.path == "/login/role"
    browser.send("/login/role", role="doctor")
    assert browser.path == "/account"
    assert cookie(browser) != before
    assert browser.raw("/admin").status_code == 403
    before = cookie(browser)
    browser.get("/login/role?next=/admin")
    browser.send("/login/role", role="administrator")
    assert browser.path == "/admin"
    assert cookie(browser) not in (None, before)


def test_account_without_a_role_is_told_so(browser: Browser, auth: Auth) -> None:
    auth.accounts.create("Nobody", username="roleless", password=PASSWORD)
    answer = browser.log_in("roleless")
    assert answer.status_code == 403
    assert cookie(browser) is None


def test_locked_account_is_logged_out_at_once(browser: Browser, auth: Auth, patient: Account, both: Account) -> None:
    browser.log_in("chen")
    auth.accounts.lock(patient.id, by=both.id)
    browser.get("/account")
    assert browser.path == "/login"


def test_logout_ends_the_session_and_needs_a_form(browser: Browser, auth: Auth, patient: Account) -> None:
    browser.log_in("chen")
    assert browser.get("/logout").status_code == 200
    assert auth.store.find(Session, account=patient.id)
    browser.send("/logout")
    assert browser.path == "/login"
    assert browser.says("You are logged out.")
    assert auth.store.find(Session, account=patient.id) == []
    browser.get("/account")
    assert browser.path == "/login"


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example",
        "//evil.example",
        "/\\evil.example",
        "javascript:alert(1)",
        "/a\r\nX: y",
        "\t//evil.example",
    ],
)
def test_login_leads_nowhere_else(browser: Browser, patient: Account, target: str) -> None:
    browser.get("/login")
    answer = browser.send("/login", follow=False, name="chen", password=PASSWORD, next=target)
    assert answer.headers["Location"] == "/account"


def test_login_leads_on_to_the_page_that_was_wanted(browser: Browser, patient: Account) -> None:
    browser.get("/account/apps")
    assert browser.path == "/login"
    browser.send("/login", name="chen", password=PASSWORD)
    assert browser.path == "/account/apps"


def test_second_factor_that_a_role_requires_is_set_up_at_login(
    browser: Browser, auth: Auth, clock: AuthClock, doctor: Account
) -> None:
    object.__setattr__(auth.settings, "staff_second_factor", True)
    browser.log_in("doctor-he")
    assert browser.path == "/login/enrol"
    assert browser.page is not None
    secret = auth.vault.unseal(auth.accounts.get(doctor.id).totp_pending, "totp")  # type: ignore[union-attr, arg-type]
    assert secret in browser.page.text
    browser.send("/login/enrol", code="000000")
    assert secret in browser.page.text  # a slip does not change the key
    browser.send("/login/enrol", code=pyotp.TOTP(secret).at(clock()))
    assert browser.says("Recovery codes")
    assert browser.get("/account").status_code == 200
