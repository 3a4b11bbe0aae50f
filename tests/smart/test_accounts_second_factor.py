"""The second factor: RFC 6238 codes that work once, recovery codes, limits."""

from __future__ import annotations

import dataclasses
from urllib.parse import parse_qs, urlsplit

import pyotp
import pytest

from smart_auth.accounts import NotPossible, Throttled, WrongCode
from smart_auth.context import Auth
from smart_auth.records import Account, RoleLink
from tests.support.accounts import AuthClock, RecordingAudit, RecordingNotifier

PHONE = "+8613800138000"


@pytest.fixture
def wang(auth: Auth) -> Account:
    return auth.accounts.create("王小明", username="wang", phone=PHONE, phone_verified=True)


@pytest.fixture
def secret(auth: Auth, wang: Account, clock: AuthClock) -> str:
    """A second factor in force; time has gone on since."""
    secret, _ = auth.accounts.second_factor.enrol(wang.id)
    auth.accounts.second_factor.confirm(wang.id, code(secret, clock))
    clock.advance(600)
    return secret


def code(secret: str, clock: AuthClock, steps: int = 0) -> str:
    return str(pyotp.TOTP(secret).at(clock.now + 30 * steps))


def account(auth: Auth, wang: Account) -> Account:
    found = auth.accounts.get(wang.id)
    assert found is not None
    return found


@pytest.mark.both_stores
def test_enrolling_takes_force_with_the_first_right_code(
    auth: Auth, wang: Account, clock: AuthClock, audit: RecordingAudit, notifier: RecordingNotifier
) -> None:
    factor = auth.accounts.second_factor
    secret, uri = factor.enrol(wang.id)
    parts = urlsplit(uri)
    assert (parts.scheme, parts.netloc, parse_qs(parts.query)["secret"]) == ("otpauth", "totp", [secret])
    assert account(auth, wang).totp_secret is None
    with pytest.raises(WrongCode):
        factor.confirm(wang.id, code(secret, clock, 5))
    with pytest.raises(WrongCode):
        factor.verify(wang.id, code(secret, clock))
    codes = factor.confirm(wang.id, code(secret, clock), "192.0.2.1")
    assert len(set(codes)) == 10
    assert audit.last("second-factor-on").address == "192.0.2.1"
    assert [one.to for one in notifier.sent] == [PHONE]
    kept = repr(account(auth, wang))
    assert secret not in kept
    assert not any(one in kept for one in codes)
    with pytest.raises(WrongCode):
        factor.verify(wang.id, code(secret, clock))  # the step was used to confirm
    clock.advance(30)
    assert factor.verify(wang.id, code(secret, clock)) == "otp"


def test_a_second_enrolment_leaves_the_first_in_force_until_confirmed(
    auth: Auth, wang: Account, secret: str, clock: AuthClock
) -> None:
    other, _ = auth.accounts.second_factor.enrol(wang.id)
    auth.accounts.second_factor.verify(wang.id, code(secret, clock))
    clock.advance(30)
    auth.accounts.second_factor.confirm(wang.id, code(other, clock))
    clock.advance(30)
    with pytest.raises(WrongCode):
        auth.accounts.second_factor.verify(wang.id, code(secret, clock))
    auth.accounts.second_factor.verify(wang.id, code(other, clock))


@pytest.mark.both_stores
@pytest.mark.parametrize(("steps", "right"), [(-2, False), (-1, True), (0, True), (1, True), (2, False)])
def test_a_step_to_either_side_is_accepted(
    auth: Auth, wang: Account, secret: str, clock: AuthClock, steps: int, right: bool
) -> None:
    if right:
        assert auth.accounts.second_factor.verify(wang.id, code(secret, clock, steps)) == "otp"
    else:
        with pytest.raises(WrongCode):
            auth.accounts.second_factor.verify(wang.id, code(secret, clock, steps))


def test_a_step_works_once_and_none_before_it(auth: Auth, wang: Account, secret: str, clock: AuthClock) -> None:
    verify = auth.accounts.second_factor.verify
    typed = code(secret, clock)
    verify(wang.id, f" {typed[:3]} {typed[3:]} ")
    for used in (typed, code(secret, clock, -1)):
        with pytest.raises(WrongCode):
            verify(wang.id, used)
    verify(wang.id, code(secret, clock, 1))


@pytest.mark.both_stores
def test_a_recovery_code_works_once_however_it_is_typed(
    auth: Auth, wang: Account, secret: str, notifier: RecordingNotifier, audit: RecordingAudit
) -> None:
    factor = auth.accounts.second_factor
    codes = factor.renew_recovery_codes(wang.id)
    assert factor.verify(wang.id, codes[0].upper().replace("-", " ")) == "otp"
    assert "恢复码" in notifier.sent[-1].text
    with pytest.raises(WrongCode):
        factor.verify(wang.id, codes[0])
    assert len(account(auth, wang).recovery_codes) == 9
    renewed = factor.renew_recovery_codes(wang.id)
    with pytest.raises(WrongCode):
        factor.verify(wang.id, codes[1])
    factor.verify(wang.id, renewed[9])
    assert audit.actions().count("recovery-codes-renewed") == 2


@pytest.mark.parametrize("typed", ["", "000", "abcdef", "１２３４５６", "\x00", "x" * 10_000])
def test_what_is_no_code_is_wrong(auth: Auth, wang: Account, secret: str, typed: str, audit: RecordingAudit) -> None:
    with pytest.raises(WrongCode):
        auth.accounts.second_factor.verify(wang.id, typed)
    assert audit.last("second-factor-failed").outcome == 4


def test_guessing_is_throttled_for_the_account(
    auth: Auth, wang: Account, secret: str, clock: AuthClock, audit: RecordingAudit
) -> None:
    clock.now += 300 - clock.now % 300
    for number in range(10):
        with pytest.raises(WrongCode):
            auth.accounts.second_factor.verify(wang.id, f"{number}", f"192.0.2.{number}")
    with pytest.raises(Throttled):
        auth.accounts.second_factor.verify(wang.id, code(secret, clock), "192.0.2.99")
    assert audit.last("second-factor-failed").outcome == 8
    clock.advance(300)
    auth.accounts.second_factor.verify(wang.id, code(secret, clock))


def test_guessing_is_throttled_for_the_day(auth: Auth, wang: Account, secret: str, clock: AuthClock) -> None:
    clock.now += 86_400 - clock.now % 86_400
    for _ in range(10):
        for number in range(10):
            with pytest.raises(WrongCode):
                auth.accounts.second_factor.verify(wang.id, f"{number}")
        clock.advance(300)
    with pytest.raises(Throttled) as caught:
        auth.accounts.second_factor.verify(wang.id, code(secret, clock))
    assert caught.value.retry_after_s == 86_400 - 3000


def test_a_locked_account_gets_no_further(auth: Auth, wang: Account, secret: str, clock: AuthClock) -> None:
    auth.accounts.lock(wang.id, by="a")
    with pytest.raises(WrongCode):
        auth.accounts.second_factor.verify(wang.id, code(secret, clock))


def test_full_width_digits_are_digits(auth: Auth, wang: Account, secret: str, clock: AuthClock) -> None:
    typed = "".join(chr(ord(digit) + 0xFEE0) for digit in code(secret, clock))
    assert auth.accounts.second_factor.verify(wang.id, typed) == "otp"


def test_a_second_factor_is_removed(
    auth: Auth, wang: Account, secret: str, clock: AuthClock, notifier: RecordingNotifier, audit: RecordingAudit
) -> None:
    auth.accounts.second_factor.disable(wang.id)
    assert account(auth, wang).totp_secret is None
    assert "关闭" in notifier.sent[-1].text
    assert "second-factor-off" in audit.actions()
    with pytest.raises(WrongCode):
        auth.accounts.second_factor.verify(wang.id, code(secret, clock))
    with pytest.raises(NotPossible):
        auth.accounts.second_factor.renew_recovery_codes(wang.id)
    with pytest.raises(NotPossible):
        auth.accounts.second_factor.confirm(wang.id, code(secret, clock))


def test_staff_can_be_required_to_have_one(auth: Auth, clock: AuthClock, audit: RecordingAudit) -> None:
    factor = auth.accounts.second_factor
    patient = auth.accounts.create("王", roles=(RoleLink(role="patient", fhir_user="Patient/p"),))
    doctor = auth.accounts.create("何", roles=(RoleLink(role="doctor", fhir_user="Practitioner/d"),))
    assert not factor.required(doctor)
    auth.settings = dataclasses.replace(auth.settings, staff_second_factor=True)
    assert (factor.required(patient), factor.missing(patient)) == (False, False)
    assert (factor.required(doctor), factor.missing(doctor)) == (True, True)
    secret, _ = factor.enrol(doctor.id)
    factor.confirm(doctor.id, code(secret, clock))
    assert not factor.missing(account(auth, doctor))
    with pytest.raises(NotPossible):
        factor.disable(doctor.id)
    factor.disable(doctor.id, by="administrator")
    assert audit.last("second-factor-off").detail == {"by": "administrator"}
    assert factor.missing(account(auth, doctor))
