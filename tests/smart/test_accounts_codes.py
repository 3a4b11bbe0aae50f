"""One-time codes (K1): registering, logging in, recovering, verifying a number, without telling who exists."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from smart_auth import codes
from smart_auth.accounts import (
    LoginFailed,
    NotPossible,
    Problem,
    Throttled,
    UnusableValue,
    WeakPassword,
    WrongCode,
)
from smart_auth.context import Auth
from smart_auth.records import Account, Client, Grant, OneTime
from tests.support.accounts import AuthClock, RecordingAudit, RecordingNotifier
from tests.support.directory import MemoryDirectory

PASSWORD = "correct horse battery 9"
OTHER_PASSWORD = "seven purple elephants 4"
PHONE, OTHER = "+8613800138000", "+8613900139000"
HERE = "192.0.2.1"


@pytest.fixture
def wang(auth: Auth) -> Account:
    return auth.accounts.create("王小明", username="wang", phone=PHONE, phone_verified=True, password=PASSWORD)


def wrong(code: str) -> str:
    return f"{(int(code) + 1) % 1_000_000:06}"


def said(act: Callable[[], object]) -> str:
    """What an act answers, exactly."""
    try:
        return f"done {act() is None}"
    except Problem as problem:
        return f"{type(problem).__name__} {problem} {problem.values}"


@pytest.mark.both_stores
def test_a_patient_registers_with_name_phone_code_and_password(
    auth: Auth, notifier: RecordingNotifier, directory: MemoryDirectory, audit: RecordingAudit
) -> None:
    auth.accounts.request_registration_code("138 0013 8000", HERE, "zh")
    assert [one.channel for one in notifier.sent] == ["sms"]
    code = notifier.code(PHONE)
    account = auth.accounts.register(" 王  小明 ", "13800138000", f" {code} ", PASSWORD, HERE, "zh")
    assert account == auth.accounts.get(account.id)
    assert (account.name, account.phone_verified, account.person, account.locale) == (
        "王 小明",
        True,
        "Person/new1",
        "zh",
    )
    assert [(link.role, link.fhir_user) for link in account.roles] == [("patient", "Patient/new1")]
    assert directory.registered == ["王 小明"]
    assert audit.last("account-create").account == account.id
    assert auth.accounts.authenticate("13800138000", PASSWORD).id == account.id
    assert auth.accounts.phone(account) == PHONE


def test_registering_a_taken_number_answers_alike_and_tells_its_holder(
    auth: Auth, wang: Account, notifier: RecordingNotifier
) -> None:
    taken = said(lambda: auth.accounts.request_registration_code(PHONE, HERE))
    assert taken == said(lambda: auth.accounts.request_registration_code(OTHER, HERE))
    assert "注册" in notifier.sent[0].text
    assert not any(char.isdigit() for char in notifier.sent[0].text)
    register = auth.accounts.register
    assert said(lambda: register("李", PHONE, "000000", PASSWORD)) == said(
        lambda: register("李", OTHER, wrong(notifier.code(OTHER)), PASSWORD)
    )
    assert auth.store.count(Account) == 1


def test_a_weak_password_leaves_the_code(auth: Auth, notifier: RecordingNotifier) -> None:
    auth.accounts.request_registration_code(PHONE, HERE)
    with pytest.raises(WeakPassword):
        auth.accounts.register("王小明", PHONE, notifier.code(PHONE), "password123")
    auth.accounts.register("王小明", PHONE, notifier.code(PHONE), PASSWORD)


@pytest.mark.parametrize(("name", "phone"), [("", PHONE), ("a" * 101, PHONE), ("a\u202eb", PHONE), ("王", "123")])
def test_what_cannot_be_a_name_or_phone_number_is_told(auth: Auth, name: str, phone: str) -> None:
    with pytest.raises(UnusableValue):
        auth.accounts.register(name, phone, "123456", PASSWORD)


def test_a_directory_that_fails_leaves_no_account(
    auth: Auth, notifier: RecordingNotifier, directory: MemoryDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> tuple[str, str]:
        raise LookupError

    auth.accounts.request_registration_code(PHONE, HERE)
    monkeypatch.setattr(directory, "register", fail)
    with pytest.raises(LookupError):
        auth.accounts.register("王小明", PHONE, notifier.code(PHONE), PASSWORD)
    assert auth.store.count(Account) == 0


def test_registering_can_be_switched_off(auth: Auth) -> None:
    auth.settings = dataclasses.replace(auth.settings, self_registration=False)
    with pytest.raises(NotPossible):
        auth.accounts.request_registration_code(PHONE, HERE)
    with pytest.raises(NotPossible):
        auth.accounts.register("王小明", PHONE, "123456", PASSWORD)


@pytest.mark.both_stores
def test_a_code_logs_in_once(auth: Auth, wang: Account, notifier: RecordingNotifier) -> None:
    auth.accounts.request_login_code("13800138000", HERE)
    code = notifier.code(PHONE)
    assert auth.accounts.authenticate_by_code(PHONE, code, HERE).id == wang.id
    with pytest.raises(WrongCode):
        auth.accounts.authenticate_by_code(PHONE, code, HERE)


def test_a_code_lives_five_minutes(auth: Auth, wang: Account, notifier: RecordingNotifier, clock: AuthClock) -> None:
    auth.accounts.request_login_code(PHONE, HERE)
    clock.advance(300)
    with pytest.raises(WrongCode):
        auth.accounts.authenticate_by_code(PHONE, notifier.code(PHONE))
    auth.accounts.request_login_code(PHONE, HERE)
    clock.advance(299)
    auth.accounts.authenticate_by_code(PHONE, notifier.code(PHONE))


def test_a_code_takes_five_tries(auth: Auth, wang: Account, notifier: RecordingNotifier, clock: AuthClock) -> None:
    for tries, works in ((4, True), (5, False)):
        auth.accounts.request_login_code(PHONE, HERE)
        code = notifier.code(PHONE)
        for _ in range(tries):
            with pytest.raises(WrongCode):
                auth.accounts.authenticate_by_code(PHONE, wrong(code))
        if works:
            auth.accounts.authenticate_by_code(PHONE, code)
        else:
            with pytest.raises(WrongCode):
                auth.accounts.authenticate_by_code(PHONE, code)
        clock.advance(60)


def test_a_new_code_replaces_the_one_before(
    auth: Auth, wang: Account, notifier: RecordingNotifier, clock: AuthClock
) -> None:
    auth.accounts.request_login_code(PHONE, HERE)
    first = notifier.code(PHONE)
    clock.advance(60)
    auth.accounts.request_login_code(PHONE, HERE)
    if first != notifier.code(PHONE):
        with pytest.raises(WrongCode):
            auth.accounts.authenticate_by_code(PHONE, first)
    auth.accounts.authenticate_by_code(PHONE, notifier.code(PHONE))


def test_a_code_is_for_one_purpose_and_one_account(auth: Auth, wang: Account, notifier: RecordingNotifier) -> None:
    other = auth.accounts.create("李", username="lili", password=PASSWORD)
    auth.accounts.request_contact_code(other.id, OTHER, HERE)
    code = notifier.code(OTHER)
    for act in (
        lambda: auth.accounts.authenticate_by_code(OTHER, code),
        lambda: auth.accounts.register("王", OTHER, code, PASSWORD),
        lambda: auth.accounts.reset_password(OTHER, code, OTHER_PASSWORD),
        lambda: auth.accounts.confirm_contact(wang.id, OTHER, code),
        lambda: auth.accounts.confirm_contact(other.id, "13700137000", code),
    ):
        with pytest.raises(WrongCode):
            act()
    assert auth.accounts.confirm_contact(other.id, OTHER, code).phone_verified


@pytest.mark.parametrize("phone", [PHONE, OTHER])
def test_a_number_gets_one_code_a_minute_and_five_an_hour_whoever_has_it(
    auth: Auth, wang: Account, clock: AuthClock, phone: str
) -> None:
    clock.now -= clock.now % 3600
    for number in range(5):
        auth.accounts.request_login_code(phone, f"198.51.100.{number}")
        clock.advance(59)
        with pytest.raises(Throttled) as caught:
            auth.accounts.request_reset_code(phone, f"203.0.113.{number}")
        assert caught.value.retry_after_s == 1
        clock.advance(1)
    with pytest.raises(Throttled) as caught:
        auth.accounts.request_login_code(phone, HERE)
    assert caught.value.retry_after_s == 3300
    clock.advance(3300)
    auth.accounts.request_login_code(phone, HERE)


def test_an_address_may_not_ask_for_many_codes(auth: Auth, clock: AuthClock) -> None:
    clock.now -= clock.now % 3600
    for number in range(60):
        auth.accounts.request_login_code(f"138000000{number:02}", HERE)
    with pytest.raises(Throttled):
        auth.accounts.request_login_code("13800000099", HERE)
    auth.accounts.request_login_code("13800000098", "192.0.2.2")


def test_an_address_may_not_try_many_codes(auth: Auth, clock: AuthClock) -> None:
    clock.now -= clock.now % 300
    for number in range(60):
        with pytest.raises(WrongCode):
            auth.accounts.authenticate_by_code(f"138000000{number:02}", "123456", HERE)
    with pytest.raises(Throttled):
        auth.accounts.authenticate_by_code(PHONE, "123456", HERE)


def test_asking_for_a_code_does_not_tell_who_exists(auth: Auth, wang: Account, notifier: RecordingNotifier) -> None:
    locked = auth.accounts.create("李", phone="13700137000", password=PASSWORD)  # not verified
    assert not locked.phone_verified
    answers = set()
    for phone in (PHONE, OTHER, "13700137000"):
        answers.add(said(lambda phone=phone: auth.accounts.request_login_code(phone, HERE)))  # type: ignore[misc]
        answers.add(said(lambda phone=phone: auth.accounts.request_reset_code(phone, HERE)).split()[0])  # type: ignore[misc]
    assert answers == {"done True", "Throttled"}
    assert [one.to for one in notifier.sent] == [PHONE]
    tries = {said(lambda phone=phone: auth.accounts.authenticate_by_code(phone, "x")) for phone in (PHONE, OTHER)}  # type: ignore[misc]
    assert len(tries) == 1


def test_a_locked_account_gets_in_by_no_code(auth: Auth, wang: Account, notifier: RecordingNotifier) -> None:
    auth.accounts.lock(wang.id, by="a")
    auth.accounts.request_login_code(PHONE, HERE)
    with pytest.raises(Problem):
        auth.accounts.authenticate_by_code(PHONE, notifier.code(PHONE))


@pytest.mark.both_stores
def test_recovery_sets_a_password_and_ends_everything(
    auth: Auth, wang: Account, notifier: RecordingNotifier, audit: RecordingAudit
) -> None:
    auth.store.insert(Client(id="app", name="App", type="public"))
    auth.store.insert(Grant(id="g", client="app", account=wang.id, role="patient"))
    cookie, _ = auth.accounts.sessions.start(wang.id, ("pwd",))
    auth.accounts.request_reset_code("13800138000", HERE)
    code = notifier.code(PHONE)
    assert auth.accounts.reset_password(PHONE, code, OTHER_PASSWORD, HERE).id == wang.id
    assert auth.accounts.authenticate("wang", OTHER_PASSWORD).id == wang.id
    with pytest.raises(LoginFailed):
        auth.accounts.authenticate("wang", PASSWORD)
    assert auth.accounts.sessions.load(cookie) is None
    grant = auth.store.get(Grant, "g")
    assert grant is not None
    assert grant.revoked_at == auth.clock()
    assert "密码" in notifier.sent[-1].text
    assert audit.last("password-change").account == wang.id
    with pytest.raises(WrongCode):
        auth.accounts.reset_password(PHONE, code, "another good passphrase 7")


def test_recovery_goes_by_a_verified_email_address(auth: Auth, notifier: RecordingNotifier) -> None:
    made = auth.accounts.create("王小明", username="wang", password=PASSWORD)
    auth.accounts.request_reset_code("wang@example.org", HERE)
    assert notifier.sent == []
    auth.accounts.request_contact_code(made.id, "Other@example.org", HERE)
    auth.accounts.confirm_contact(made.id, "other@example.org", notifier.code("other@example.org"))
    auth.clock.advance(60)  # type: ignore[attr-defined]
    auth.accounts.request_reset_code("other@EXAMPLE.org", HERE)
    assert notifier.sent[-1].channel == "email"
    auth.accounts.reset_password("other@example.org", notifier.code("other@example.org"), OTHER_PASSWORD)
    assert auth.accounts.authenticate("wang", OTHER_PASSWORD).id == made.id


def test_recovery_opens_a_lockout(auth: Auth, wang: Account, notifier: RecordingNotifier) -> None:
    for _ in range(5):
        with pytest.raises(LoginFailed):
            auth.accounts.authenticate("wang", "x")
    auth.accounts.request_reset_code(PHONE, HERE)
    auth.accounts.reset_password(PHONE, notifier.code(PHONE), OTHER_PASSWORD)
    assert auth.accounts.authenticate("wang", OTHER_PASSWORD).id == wang.id


@pytest.mark.parametrize("password", ["short", "password123", PASSWORD])
def test_a_password_refused_in_recovery_leaves_the_code(
    auth: Auth, wang: Account, notifier: RecordingNotifier, password: str
) -> None:
    auth.accounts.request_reset_code(PHONE, HERE)
    with pytest.raises(WeakPassword):
        auth.accounts.reset_password(PHONE, notifier.code(PHONE), password)
    auth.accounts.reset_password(PHONE, notifier.code(PHONE), OTHER_PASSWORD)


def test_a_wrong_code_does_not_tell_whether_the_password_is_the_present_one(auth: Auth, wang: Account) -> None:
    auth.accounts.request_reset_code(PHONE, HERE)
    with pytest.raises(WrongCode):
        auth.accounts.reset_password(PHONE, "x", PASSWORD)


@pytest.mark.both_stores
def test_a_phone_number_changes_by_a_code_and_the_former_one_is_told(
    auth: Auth, wang: Account, notifier: RecordingNotifier, audit: RecordingAudit
) -> None:
    auth.accounts.request_contact_code(wang.id, "139 0013 9000", HERE)
    changed = auth.accounts.confirm_contact(wang.id, OTHER, notifier.code(OTHER), HERE)
    assert auth.accounts.phone(changed) == OTHER
    assert notifier.sent[-1].to == PHONE
    assert audit.last("contact-change").detail == {"field": "phone"}
    assert auth.accounts.by_login(PHONE) is None


def test_the_number_of_another_account_is_not_told_and_not_given(
    auth: Auth, wang: Account, notifier: RecordingNotifier
) -> None:
    other = auth.accounts.create("李", username="lili", password=PASSWORD)
    auth.accounts.request_contact_code(other.id, PHONE, HERE)
    assert notifier.sent == []
    with pytest.raises(WrongCode):
        auth.accounts.confirm_contact(other.id, PHONE, "000000")


def test_a_number_that_becomes_anothers_meanwhile_is_not_given(auth: Auth, notifier: RecordingNotifier) -> None:
    first = auth.accounts.create("王", username="wang")
    auth.accounts.request_contact_code(first.id, OTHER, HERE)
    auth.accounts.create("李", phone=OTHER)
    with pytest.raises(WrongCode):
        auth.accounts.confirm_contact(first.id, OTHER, notifier.code(OTHER))


def test_codes_and_where_they_went_are_not_readable_in_the_store(
    auth: Auth, wang: Account, notifier: RecordingNotifier
) -> None:
    auth.accounts.request_login_code(PHONE, HERE)
    kept = repr(auth.store.page(OneTime))
    assert notifier.code(PHONE) not in kept
    assert "13800138000" not in kept


@pytest.mark.parametrize(
    ("locale", "word"), [("en", "Your code is"), ("zh", "验证码"), ("zh-Hans-CN", "验证码"), (None, "验证码")]
)
def test_a_code_is_told_in_the_language_of_the_page(
    auth: Auth, wang: Account, notifier: RecordingNotifier, locale: str | None, word: str
) -> None:
    auth.accounts.request_login_code(PHONE, HERE, locale)
    assert word in notifier.sent[0].text


def test_every_purpose_can_be_sent_and_checked(auth: Auth, notifier: RecordingNotifier, clock: AuthClock) -> None:
    for number, purpose in enumerate(codes.PURPOSES):
        target = f"+861380013800{number}"
        auth.accounts.codes.send(purpose, target, HERE, subject="a")
        auth.accounts.codes.check(purpose, target, notifier.code(target), HERE, subject="a")
