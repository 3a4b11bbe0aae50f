"""One's own account: profile, contact, password, second factor, sessions, apps, access log."""

from __future__ import annotations

import re
from collections.abc import Callable

import pyotp

from smart_auth.context import Access, Auth
from smart_auth.records import Account, Approval, Client, Grant, Session
from tests.smart_web.conftest import PASSWORD, Browser
from tests.support.accounts import AuthClock, RecordingAudit, RecordingNotifier


def test_profile_shows_phone_and_dependents(browser: Browser, patient: Account) -> None:
    browser.log_in("chen")
    for text in ("+8613800138000 verified", "Chen Xiaoming", "you are the father"):
        assert browser.says(text)


def test_name_and_user_name_are_changed(browser: Browser, auth: Auth, patient: Account, doctor: Account) -> None:
    browser.log_in("chen")
    browser.send("/account", name="Chen G.", username="chen.g")
    assert browser.says("Saved.")
    changed = auth.accounts.get(patient.id)
    assert changed is not None
    assert (changed.name, changed.username) == ("Chen G.", "chen.g")
    assert browser.send("/account", name="Chen G.", username="doctor-he").status_code == 400
    assert browser.says("This is taken already.")


def test_e_mail_is_verified_with_a_code(
    browser: Browser, auth: Auth, patient: Account, notifier: RecordingNotifier
) -> None:
    browser.log_in("chen")
    browser.get("/account/contact")
    browser.send("/account/contact", contact="Chen@Example.com")
    browser.send("/account/contact/confirm", code=notifier.code("chen@example.com"))
    assert browser.says("This now belongs to your account")
    browser.send("/logout")
    browser.log_in("chen@example.com")
    assert browser.path == "/account"


def test_contact_of_somebody_else_is_answered_alike(
    browser: Browser, patient: Account, doctor: Account, notifier: RecordingNotifier
) -> None:
    browser.log_in("doctor-he")
    browser.get("/account/contact")
    browser.send("/account/contact", contact="13800138000")
    assert browser.says("If this can be yours, a code of six digits was sent to it.")
    browser.send("/account/contact/confirm", code="000000")
    assert browser.says("This code is not right or no longer valid.")


def test_password_is_changed_and_logs_out_elsewhere(
    browser: Browser, new_browser: Callable[[], Browser], auth: Auth, patient: Account
) -> None:
    elsewhere, fresh = new_browser(), "nine quiet herons fishing"
    elsewhere.log_in("chen")
    browser.log_in("chen")
    browser.get("/account/password")
    browser.send("/account/password", current="wrong", password=fresh, again=fresh)
    assert browser.says("This account or password is not right.")
    browser.send("/account/password", current=PASSWORD, password=fresh, again=fresh)
    assert browser.path == "/account/security"
    elsewhere.get("/account")
    assert elsewhere.path == "/login"


def test_second_factor_is_set_up_and_its_codes_are_shown_once(
    browser: Browser, auth: Auth, patient: Account, clock: AuthClock
) -> None:
    browser.log_in("chen")
    page = browser.get("/account/second-factor")
    secret = re.findall(r"<code>([A-Z2-7]{32})</code>", page.text)[0]
    assert 'src="data:image/svg+xml' in page.text
    browser.send("/account/second-factor", code="000000")
    assert secret in (browser.page.text if browser.page else "")
    page = browser.send("/account/second-factor", code=pyotp.TOTP(secret).at(clock()))
    assert len(re.findall(r"<code>[a-z2-7-]{19}</code>", page.text)) == 10
    assert "no-store" in page.headers["Cache-Control"]
    browser.get("/account/security")
    assert browser.says("10 recovery codes are left.")
    browser.send("/account/second-factor/codes")
    assert browser.says("Write these codes down")
    browser.get("/account/security")
    browser.send("/account/second-factor/off")
    assert browser.says("The second factor is off.")


def test_what_protects_the_account_needs_a_recent_login(browser: Browser, patient: Account, clock: AuthClock) -> None:
    browser.log_in("chen")
    clock.advance(901)
    browser.get("/account/second-factor")
    assert browser.path == "/login/again"
    browser.send("/login/again", password="wrong wrong wrong")
    assert browser.path == "/login/again"
    browser.send("/login/again", password=PASSWORD)
    assert browser.path == "/account/second-factor"


def test_confirming_asks_for_the_second_factor_too(
    browser: Browser, auth: Auth, doctor: Account, clock: AuthClock
) -> None:
    secret, _uri = auth.accounts.second_factor.enrol(doctor.id)
    auth.accounts.second_factor.confirm(doctor.id, pyotp.TOTP(secret).at(clock()))
    clock.advance(30)
    browser.log_in("doctor-he")
    browser.send("/login/second", code=pyotp.TOTP(secret).at(clock()))
    clock.advance(901)
    browser.get("/account/second-factor")
    browser.send("/login/again", password=PASSWORD, code="000000")
    assert browser.path == "/login/again"
    browser.send("/login/again", password=PASSWORD, code=pyotp.TOTP(secret).at(clock()))
    assert browser.path == "/account/second-factor"


def test_sessions_are_listed_and_ended(
    browser: Browser, new_browser: Callable[[], Browser], auth: Auth, patient: Account, audit: RecordingAudit
) -> None:
    others = [new_browser(), new_browser()]
    for other in others:
        other.log_in("chen")
    browser.log_in("chen")
    page = browser.get("/account/sessions")
    assert browser.says("this device")
    ids = [one for one in re.findall(r'name="session" value="(\w+)"', page.text) if one != "others"]
    assert len(ids) == 2
    browser.send("/account/sessions/end", session=ids[0])
    assert len(auth.store.find(Session, account=patient.id)) == 2
    browser.send("/account/sessions/end", session="others")
    assert len(auth.store.find(Session, account=patient.id)) == 1
    assert audit.actions().count("session-end") == 2
    others[0].get("/account")
    assert others[0].path == "/login"


def test_sessions_of_others_cannot_be_ended(
    browser: Browser, new_browser: Callable[[], Browser], auth: Auth, patient: Account, doctor: Account
) -> None:
    other = new_browser()
    other.log_in("doctor-he")
    theirs = auth.store.find(Session, account=doctor.id)[0]
    browser.log_in("chen")
    browser.get("/account/sessions")
    browser.send("/account/sessions/end", session=theirs.id)
    assert auth.store.find(Session, account=doctor.id) == [theirs]


def grant(id: str, account: str, client: str = "diary", scope: str = "patient/Observation.rs") -> Grant:
    return Grant(id=id, client=client, client_name="Diary", account=account, role="patient", scope=scope, patient="p2")


def test_apps_are_listed_in_words_and_removed(
    browser: Browser, auth: Auth, patient: Account, doctor: Account, audit: RecordingAudit
) -> None:
    auth.store.put(Client(id="diary", name="Blood pressure diary", type="public", redirect_uris=()))
    for one in (grant("g1", patient.id), grant("g2", patient.id, scope="offline_access"), grant("g3", doctor.id)):
        auth.store.put(one)
    approval = f"{patient.id}|diary|patient"
    auth.store.put(Approval(id=approval, account=patient.id, client="diary", scope="patient/Observation.rs"))
    browser.log_in("chen")
    page = browser.get("/account/apps")
    for text in ("Blood pressure diary", "See measurements and laboratory results", "Keep access when you are away",
                 "Chen Xiaoming", "does not ask again"):  # fmt: skip
        assert browser.says(text)
    assert page.text.count("<section") == 1
    browser.send("/account/apps/remove", client="diary")
    assert browser.says("No app uses your data.")
    revoked = {id: auth.store.get(Grant, id).revoked_at is not None for id in ("g1", "g2", "g3")}  # type: ignore[union-attr]
    assert revoked == {"g1": True, "g2": True, "g3": False}
    assert auth.store.get(Approval, approval) is None
    assert audit.last("revoke").client == "diary"


def test_app_that_was_removed_from_the_register_keeps_its_name(browser: Browser, auth: Auth, patient: Account) -> None:
    auth.store.put(grant("g1", patient.id, "gone"))
    browser.log_in("chen")
    browser.get("/account/apps")
    assert browser.says("Diary")


def test_access_log_shows_who_looked(browser: Browser, auth: Auth, patient: Account) -> None:
    row = Access(1_900_000_000, "He Wenjing", "r", "Observation", "Chen Guoqiang", "doctor", None, True, "unconscious")
    auth.access_log = lambda account: [row] if account.id == patient.id else []
    browser.log_in("chen")
    browser.get("/account/access-log")
    for text in (
        "He Wenjing",
        "Doctor",
        "read: measurements and laboratory results",
        "emergency access",
        "unconscious",
    ):
        assert browser.says(text)


def test_access_log_that_nobody_keeps_is_said_to_be_missing(browser: Browser, auth: Auth, patient: Account) -> None:
    browser.log_in("chen")
    browser.get("/account/access-log")
    assert browser.says("This server does not show the access log here.")
    auth.access_log = lambda account: []
    browser.get("/account/access-log")
    assert browser.says("Nobody has looked so far.")


def test_hostile_texts_are_shown_as_they_are(browser: Browser, auth: Auth, patient: Account) -> None:
    evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{7*7}}%(x)s"
    auth.store.put(Client(id='x"><b>', name=evil, type="public", redirect_uris=()))
    auth.store.put(grant("g1", patient.id, 'x"><b>'))
    auth.access_log = lambda account: [Access(0, evil, "r", evil, evil, evil, evil, True, evil)]
    auth.accounts.rename(patient.id, evil[:90])
    browser.log_in("chen")
    for path in ("/account", "/account/apps", "/account/access-log", "/account/sessions", "/account/security"):
        page = browser.get(path)
        assert page.status_code == 200
        assert "<script>alert" not in page.text
        assert "<img src=x" not in page.text
        assert "<b>" not in re.findall(r'name="client" value=.*', page.text + 'name="client" value=')[0]


def test_hostile_values_of_a_form_are_escaped(browser: Browser) -> None:
    browser.get("/login")
    page = browser.send("/login", name='"><script>alert(1)</script>', password="x")
    assert "<script>alert" not in page.text
