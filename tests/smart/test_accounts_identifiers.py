"""What people log in with, in one form each (K1, K3), and which passwords are refused."""

from __future__ import annotations

import dataclasses
import threading

import pytest
from argon2 import PasswordHasher, extract_parameters
from argon2.profiles import CHEAPEST, RFC_9106_LOW_MEMORY

from smart_auth import passwords
from smart_auth.accounts import WeakPassword
from smart_auth.context import Auth, AuthSettings
from smart_auth.identifiers import name_of, normal_email, normal_phone, normal_username
from smart_auth.problems import UnusableValue


@pytest.mark.parametrize(
    ("text", "phone"),
    [
        ("13800138000", "+8613800138000"),
        (" 138 0013 8000 ", "+8613800138000"),
        ("138-0013-8000", "+8613800138000"),
        ("138–0013—8000", "+8613800138000"),
        ("１３８００１３８０００", "+8613800138000"),
        ("＋８６ 13800138000", "+8613800138000"),
        ("+86 (138) 0013 8000", "+8613800138000"),
        ("8613800138000", "+8613800138000"),
        ("008613800138000", "+8613800138000"),
        ("16600001111", "+8616600001111"),
        ("17000001111", "+8617000001111"),
        ("19912345678", "+8619912345678"),
        ("+852 9123 4567", "+85291234567"),
        ("+44 7400 123456", "+447400123456"),
        ("12300001111", None),
        ("010-62345678", None),
        ("+861062345678", None),
        ("+8612300001111", None),
        ("1380013800", None),
        ("138001380001", None),
        ("", None),
        ("wang", None),
        ("+", None),
        ("+44 7400 123456 ext 5", None),
        ("٠١٢٣٤٥٦٧٨٩", None),
        ("13800138000" * 1000, None),
        ("\x00", None),
    ],
)
def test_phone_numbers_have_one_form(text: str, phone: str | None) -> None:
    assert normal_phone(text) == phone


@pytest.mark.parametrize(
    ("text", "email"),
    [
        ("Wang@Example.ORG", "wang@example.org"),
        (" a.b+c@x-y.example.org ", "a.b+c@x-y.example.org"),
        ("a@b", None),
        ("a@b.1", None),
        ("a@@b.org", None),
        ("a b@c.org", None),
        ("a@b.org\r\nBcc: x@y.org", None),
        ("a,b@c.org", None),
        ("<a@b.org>", None),
        ("a@-b.org", None),
        ("@b.org", None),
        ("a@" + "b" * 260 + ".org", None),
    ],
)
def test_email_addresses_have_one_form(text: str, email: str | None) -> None:
    assert normal_email(text) == email


@pytest.mark.parametrize(
    ("text", "username"),
    [
        ("Doctor-He", "doctor-he"),
        (" w.a_n-9 ", "w.a_n-9"),
        ("ab", None),
        ("9abc", None),
        ("a" * 33, None),
        ("a@b", None),
        ("王小明", None),
        ("a b c", None),
    ],
)
def test_user_names_have_one_form(text: str, username: str | None) -> None:
    assert normal_username(text) == username


def test_a_name_is_trimmed_and_holds_no_controls() -> None:
    assert name_of("  王 \t 小明 ") == "王 小明"
    for text in ("", "  ", "a\u200bb", "a\x00b", "a\u202eb", "x" * 101, "\ud800"):
        with pytest.raises(UnusableValue):
            name_of(text)


def test_no_value_is_taken_twice(auth: Auth) -> None:
    auth.accounts.create("a", username="wang", phone="13800138000", email="a@example.org")
    for values in ({"username": "WANG"}, {"phone": "+86 138 0013 8000"}, {"email": "A@example.org"}):
        with pytest.raises(UnusableValue) as caught:
            auth.accounts.create("b", **values)  # type: ignore[arg-type]
        assert {caught.value.field} == set(values)


@pytest.mark.parametrize(
    ("password", "reason"),
    [
        ("", passwords.TOO_SHORT),
        ("Xq7$kz9!w", passwords.TOO_SHORT),
        ("x7 " * 86, passwords.TOO_LONG),
        ("1234567890", passwords.BREACHED),
        ("PASSWORD123", passwords.BREACHED),
        ("1qaz2wsx3edc", passwords.BREACHED),
        ("１２３４５６７８９０", passwords.BREACHED),
        ("aaaaaaaaaaaaaaa", passwords.GUESSABLE),
        ("wangxiaoming", passwords.GUESSABLE),
        ("13800138000", passwords.GUESSABLE),
        ("wangxm@example.org", passwords.GUESSABLE),
        ("patient-xu-patient", passwords.GUESSABLE),
        ("PatientXiaoming", passwords.GUESSABLE),
        ("wang.xiaoming.2026", passwords.GUESSABLE),
        ("gnimoaixgnaw!!", passwords.GUESSABLE),
        ("h3st1a-H0spital-1", passwords.GUESSABLE),
        ("hestia-hospital-2026", passwords.GUESSABLE),
        ("Welcome-Doctor-99", passwords.GUESSABLE),
        ("00138000 00138000", passwords.GUESSABLE),
        ("example.org/Password", passwords.GUESSABLE),
        ("王小明的医院密码王小明", passwords.GUESSABLE),
        ("1234 5678 90", passwords.BREACHED),
        ("1qaz-2wsx-3edc", passwords.BREACHED),
        ("Summer2026!!", passwords.GUESSABLE),
        ("letmein-letmein", passwords.GUESSABLE),
        ("Woaini_1314520", passwords.GUESSABLE),
        ("patient vexilloid quagmire", None),
        ("王小明春眠不觉晓处处", None),
        ("kv8xuqz2wm", None),
        ("correct horse battery 9", None),
        ("春眠不觉晓处处闻啼鸟", None),
        ("a quick vexilloid jumps over some lazy quagmire while 81 purple elephants compose symphonies", None),
    ],
)
def test_weak_passwords_are_refused(password: str, reason: str | None) -> None:
    known = ("wang xiaoming", "wangxiaoming", "patient-xu", "王小明", "+8613800138000", "wangxm@example.org", None)
    assert passwords.weaknesses(password, known) == ([] if reason is None else [reason])


def test_what_is_known_of_one_person_does_not_weaken_the_password_of_another() -> None:
    secret = "vexilloid quagmire 81"
    assert passwords.weaknesses(secret, [secret]) == [passwords.GUESSABLE]
    assert passwords.weaknesses(secret) == []
    found: list[list[str]] = []
    threads = [
        threading.Thread(target=lambda n=number: found.append(passwords.weaknesses(secret, [secret] * (n % 2))))  # type: ignore[misc]
        for number in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(found) == [[]] * 3 + [[passwords.GUESSABLE]] * 3


def test_hashes_are_argon2id_with_the_parameters_of_rfc_9106(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "hasher", PasswordHasher.from_parameters(RFC_9106_LOW_MEMORY))
    made = passwords.hash_password("correct horse battery 9")
    assert made.startswith("$argon2id$")
    found = extract_parameters(made)
    assert (found.time_cost, found.memory_cost, found.parallelism) == (3, 65536, 4)
    assert passwords.verify(made, "correct horse battery 9")
    assert not passwords.verify(made, "correct horse battery 8")


def test_comparing_with_nobody_costs_what_comparing_with_somebody_does(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []

    class Watching(PasswordHasher):
        def verify(self, hash: str | bytes, password: str | bytes) -> bool:  # type: ignore[override]
            compared.append(str(hash))
            return super().verify(hash, password)

    monkeypatch.setattr(passwords, "hasher", Watching.from_parameters(RFC_9106_LOW_MEMORY))
    somebody = passwords.hash_password("correct horse battery 9")
    assert not passwords.verify(None, "correct horse battery 9")
    assert extract_parameters(compared[0]) == extract_parameters(somebody)


def test_a_damaged_hash_matches_nothing() -> None:
    for damaged in ("", "x", "$argon2id$", "$argon2id$v=19$m=8,t=1,p=1$c2FsdA$"):
        assert not passwords.verify(damaged, "correct horse battery 9")


def test_hashes_of_other_parameters_are_outdated(monkeypatch: pytest.MonkeyPatch) -> None:
    made = passwords.hash_password("correct horse battery 9")
    assert not passwords.outdated(made)
    monkeypatch.setattr(passwords, "hasher", PasswordHasher.from_parameters(dataclasses.replace(CHEAPEST, time_cost=2)))
    assert passwords.outdated(made)


def test_a_generated_password_may_be_used_and_is_new_each_time() -> None:
    made = [passwords.generate() for _ in range(5)]
    assert len(set(made)) == 5
    assert [passwords.weaknesses(one) for one in made] == [[]] * 5


def test_the_name_and_the_present_password_are_no_new_password(auth: Auth) -> None:
    made = auth.accounts.create("Maximilian Mustermann", username="maxmuster", password="correct horse battery 9")
    for password, reason in (
        ("maximilian mustermann", passwords.GUESSABLE),
        ("correct horse battery 9", passwords.UNCHANGED),
    ):
        with pytest.raises(WeakPassword) as caught:
            auth.accounts.set_password(made.id, password)
        assert caught.value.reasons == [reason]


@pytest.mark.parametrize(
    "auth_settings",
    [AuthSettings(issuer="https://login.xiehe-beijing.example", tenant="Xiehe Third Hospital")],
)
def test_words_of_the_hospital_and_of_the_account_make_no_password(auth: Auth) -> None:
    account = auth.accounts.create("Xu Ming", username="patient-xu", password="x", phone="13800138000")
    for password in ("patient-xu-patient", "xiehe-beijing-2026", "third.hospital.xu", "Ming-13800138000"):
        with pytest.raises(WeakPassword) as caught:
            auth.accounts.set_password(account.id, password)
        assert caught.value.reasons == [passwords.GUESSABLE]
    auth.accounts.set_password(account.id, "seven purple elephants 4")
