"""Logging in: by which names, neutral answers, lockout, throttling, the first administrator."""

from __future__ import annotations

import dataclasses

import pytest
from argon2 import PasswordHasher
from argon2.profiles import CHEAPEST

from smart_auth import limits, passwords
from smart_auth.accounts import Locked, LoginFailed, MustChange, Problem, Throttled, first_administrator
from smart_auth.context import Auth
from smart_auth.records import Account, OneTime, RoleLink
from tests.support.accounts import AuthClock, RecordingAudit, RecordingNotifier

PASSWORD = "correct horse battery 9"
PHONE = "+8613800138000"
HERE = "192.0.2.1"

ADMIN = RoleLink(role="administrator", fhir_user="Practitioner/admin")


@pytest.fixture
def wang(auth: Auth) -> Account:
    return auth.accounts.create("王小明", username="Wang", phone="13800138000", phone_verified=True, password=PASSWORD)


def outcome(auth: Auth, login: str, password: str, address: str = HERE) -> str:
    """What an attempt to log in says, exactly."""
    try:
        return f"in as {auth.accounts.authenticate(login, password, address).id}"
    except Problem as problem:
        return f"{type(problem).__name__} {problem} {problem.values} {getattr(problem, 'retry_after_s', None)}"


@pytest.mark.both_stores
@pytest.mark.parametrize(
    "login",
    [
        "wang",
        " WANG ",
        "13800138000",
        "+86 138-0013-8000",
        "138 0013 8000",
        "１３８００１３８０００",
        "0086 13800138000",
    ],
)
def test_a_user_name_or_phone_number_in_any_writing_logs_in(auth: Auth, wang: Account, login: str) -> None:
    assert auth.accounts.authenticate(login, PASSWORD, HERE).id == wang.id


def test_an_email_address_logs_in_and_names_do_not(auth: Auth) -> None:
    made = auth.accounts.create("王小明", email="Wang@Example.org", password=PASSWORD)
    assert auth.accounts.authenticate("wang@example.ORG", PASSWORD).id == made.id
    with pytest.raises(LoginFailed):
        auth.accounts.authenticate("王小明", PASSWORD)


def test_a_password_typed_full_width_is_the_same(auth: Auth, wang: Account) -> None:
    assert auth.accounts.authenticate("wang", PASSWORD.replace("9", "９")).id == wang.id


@pytest.mark.parametrize(
    "login", ["", " ", "nobody", "13900139000", "nobody@example.org", "\x00", "a" * 10_000, "王小明"]
)
def test_nobody_fails_like_a_wrong_password(auth: Auth, wang: Account, login: str) -> None:
    assert outcome(auth, login, PASSWORD) == outcome(auth, "wang", "wrong password 1")


def test_a_password_that_is_too_long_is_wrong_at_the_same_cost(auth: Auth, wang: Account) -> None:
    assert outcome(auth, "wang", PASSWORD + "x" * 100_000) == outcome(auth, "nobody", "x")


@pytest.mark.parametrize("login", ["wang", "nobody", "13800138000"])
def test_every_attempt_costs_one_verification(
    auth: Auth, wang: Account, login: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome(auth, "warm", "up")
    count = 0

    class Counting(PasswordHasher):
        def verify(self, hash: str | bytes, password: str | bytes) -> bool:  # type: ignore[override]
            nonlocal count
            count += 1
            return super().verify(hash, password)

    monkeypatch.setattr(passwords, "hasher", Counting.from_parameters(CHEAPEST))
    for expected in range(1, 8):  # the last ones are locked out
        outcome(auth, login, "wrong password 1")
        assert count == expected


def test_an_account_without_password_fails_alike(auth: Auth) -> None:
    auth.accounts.create("王小明", username="wang")
    assert outcome(auth, "wang", "") == outcome(auth, "nobody", "")


@pytest.mark.both_stores
def test_wrong_passwords_lock_known_and_unknown_accounts_alike(
    auth: Auth, wang: Account, clock: AuthClock, notifier: RecordingNotifier, audit: RecordingAudit
) -> None:
    known = [outcome(auth, "wang", "wrong password 1") for _ in range(7)]
    unknown = [outcome(auth, "nobody", "wrong password 1") for _ in range(7)]
    assert known == unknown
    assert [one.split()[0] for one in known] == ["LoginFailed"] * 5 + ["Locked"] * 2
    assert outcome(auth, "wang", PASSWORD) == known[-1], "The right password does not tell itself while locked."
    assert [(one.to, "锁定" in one.text) for one in notifier.sent] == [(PHONE, True)]
    assert audit.actions().count("account-lockout") == 1
    clock.advance(auth.settings.lockout_s)
    assert outcome(auth, "nobody", "wrong password 1").startswith("LoginFailed")
    assert outcome(auth, "wang", PASSWORD) == f"in as {wang.id}"


def test_attempts_by_any_name_count_together(auth: Auth, wang: Account) -> None:
    for login in ("wang", "13800138000", "+86 13800138000", "WANG", "13800138000"):
        outcome(auth, login, "wrong password 1")
    with pytest.raises(Locked) as caught:
        auth.accounts.authenticate("wang", PASSWORD)
    assert caught.value.retry_after_s == auth.settings.lockout_s


def test_the_right_password_forgets_the_wrong_ones(auth: Auth, wang: Account) -> None:
    for _ in range(3):
        for _ in range(4):
            outcome(auth, "wang", "wrong password 1")
        assert auth.accounts.authenticate("wang", PASSWORD).failures == 0


def test_one_address_may_not_try_many_accounts(auth: Auth, clock: AuthClock) -> None:
    clock.now -= clock.now % 300
    limit = limits.LOGIN_PER_ADDRESS.count
    answers = [outcome(auth, f"nobody{number}", "x", "2001:db8::1") for number in range(limit + 1)]
    assert {one.split()[0] for one in answers[:limit]} == {"LoginFailed"}
    assert answers[-1].startswith("Throttled")
    assert outcome(auth, "other", "x", "2001:db8::ffff:2").startswith("Throttled"), "The same subscriber's network."
    assert outcome(auth, "other", "x", "2001:db8:0:1::1").startswith("LoginFailed")
    clock.advance(300)
    assert outcome(auth, "other", "x", "2001:db8::1").startswith("LoginFailed")


def test_one_account_may_not_be_tried_fast(auth: Auth, wang: Account, clock: AuthClock) -> None:
    clock.now -= clock.now % 60
    clock.advance(20)
    known = [outcome(auth, "wang", "x") for _ in range(25)]
    assert known == [outcome(auth, "nobody", "x") for _ in range(25)]
    with pytest.raises(Throttled) as caught:
        auth.accounts.authenticate("wang", PASSWORD)
    assert caught.value.retry_after_s == 40


def test_a_locked_account_says_so_to_its_password_only(auth: Auth, wang: Account) -> None:
    auth.accounts.lock(wang.id, by="a")
    assert outcome(auth, "wang", "wrong password 1").startswith("LoginFailed")
    with pytest.raises(Locked) as caught:
        auth.accounts.authenticate("wang", PASSWORD)
    assert caught.value.retry_after_s is None
    auth.accounts.unlock(wang.id, by="a")
    assert auth.accounts.authenticate("wang", PASSWORD).status == "active"


def test_a_closed_account_is_nobody(auth: Auth, wang: Account) -> None:
    auth.accounts.close(wang.id, by="a")
    assert outcome(auth, "wang", PASSWORD) == outcome(auth, "nobody", PASSWORD)
    auth.accounts.create("another", username="wang", phone="13800138000")


def test_a_demo_account_is_nobody_in_production(auth: Auth) -> None:
    auth.accounts.create("演示", username="demo", password=PASSWORD, demo=True)
    assert outcome(auth, "demo", PASSWORD).startswith("in as")
    auth.settings = dataclasses.replace(auth.settings, production=True)
    assert outcome(auth, "demo", PASSWORD) == outcome(auth, "nobody", PASSWORD)


def test_a_password_to_be_changed_is_told_apart_after_it_was_right(auth: Auth, wang: Account) -> None:
    password = auth.accounts.give_password(wang.id, by="a")
    assert outcome(auth, "wang", "wrong password 1").startswith("LoginFailed")
    with pytest.raises(MustChange) as caught:
        auth.accounts.authenticate("wang", password)
    assert caught.value.account.id == wang.id
    auth.accounts.set_password(wang.id, PASSWORD)
    assert auth.accounts.authenticate("wang", PASSWORD).id == wang.id


def test_a_hash_of_other_parameters_is_renewed_at_login(
    auth: Auth, wang: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    stronger = dataclasses.replace(CHEAPEST, time_cost=2)
    monkeypatch.setattr(passwords, "hasher", PasswordHasher.from_parameters(stronger))
    found = auth.accounts.authenticate("wang", PASSWORD)
    assert found.password_hash is not None
    assert "t=2" in found.password_hash
    assert auth.accounts.get(wang.id) == found
    assert auth.accounts.authenticate("wang", PASSWORD) == found


def test_what_is_stored_and_told_holds_neither_phone_nor_password(
    auth: Auth, wang: Account, audit: RecordingAudit
) -> None:
    outcome(auth, "13800138000", PASSWORD)
    outcome(auth, "13900139000", "x")
    kept = repr([auth.store.page(kind) for kind in (Account, OneTime)]) + repr(audit.events)
    for secret in ("13800138000", "13900139000", PASSWORD):
        assert secret not in kept


def test_a_password_is_asked_again_under_the_same_limits(auth: Auth, wang: Account) -> None:
    auth.accounts.check_password(wang.id, PASSWORD, HERE)
    for _ in range(5):
        with pytest.raises(LoginFailed):
            auth.accounts.check_password(wang.id, "wrong password 1", HERE)
    with pytest.raises(Locked):
        auth.accounts.check_password(wang.id, PASSWORD, HERE)


@pytest.mark.both_stores
def test_the_first_administrator_is_made_once_with_a_password_to_change(auth: Auth) -> None:
    made = first_administrator(auth)
    assert made is not None
    username, password = made
    assert first_administrator(auth) is None
    with pytest.raises(MustChange) as caught:
        auth.accounts.authenticate(username, password)
    assert [link.role for link in caught.value.account.roles] == ["administrator"]
    auth.accounts.set_password(caught.value.account.id, PASSWORD)
    with pytest.raises(LoginFailed):
        auth.accounts.authenticate(username, password)
    assert first_administrator(auth) is None


def test_the_first_administrator_gets_another_name_when_it_is_taken(auth: Auth) -> None:
    auth.accounts.create("somebody", username="admin")
    made = first_administrator(auth)
    assert made is not None
    assert made[0] == "administrator"
