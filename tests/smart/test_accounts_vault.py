"""What is sealed opens with its key and purpose only."""

from __future__ import annotations

import pytest

from smart_auth.vault import KeyVault

OLD, NEW = bytes(32), bytes(range(32))
TEXTS = ["", "+8613800138000", "王小明", "x" * 5000]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("exact", [True, False])
def test_sealed_text_opens(text: str, exact: bool) -> None:
    vault = KeyVault([NEW])
    seal = vault.seal_exact if exact else vault.seal
    assert vault.unseal(seal(text, "phone"), "phone") == text
    assert seal(text, "phone").isascii()
    assert not text or text not in seal(text, "phone")


def test_sealing_differs_each_time_and_exact_sealing_does_not() -> None:
    vault = KeyVault([NEW])
    assert vault.seal("a", "x") != vault.seal("a", "x")
    assert vault.seal_exact("a", "x") == KeyVault([NEW]).seal_exact("a", "x")
    assert vault.seal_exact("a", "x") != vault.seal_exact("a", "y")
    assert vault.seal_exact("a", "x") != vault.seal_exact("b", "x")


@pytest.mark.parametrize("exact", [True, False])
def test_another_purpose_key_or_a_change_is_refused(exact: bool) -> None:
    vault = KeyVault([NEW])
    sealed = (vault.seal_exact if exact else vault.seal)("+8613800138000", "phone")
    attempts = [(vault, sealed, "email"), (KeyVault([OLD]), sealed, "phone"), (vault, "", "phone")]
    form, key, body = sealed.split(".")
    changed = body[:30] + ("A" if body[30] != "A" else "B") + body[31:]
    attempts += [
        (vault, f"{form}.{key}.{changed}", "phone"),
        (vault, f"{form}.{key}.", "phone"),
        (vault, f"{form}.{key}.é", "phone"),
        (vault, f"{'g' if exact else 's'}.{key}.{body}", "phone"),
        (vault, f"x.{key}.{body}", "phone"),
        (vault, sealed + ".x", "phone"),
    ]
    for one, text, purpose in attempts:
        with pytest.raises(ValueError, match="sealed with another key") as caught:
            one.unseal(text, purpose)
        assert "13800138000" not in str(caught.value)


def test_an_earlier_key_still_opens_and_no_longer_seals() -> None:
    before, after = KeyVault([OLD]), KeyVault([NEW, OLD])
    sealed, exact = before.seal("a", "x"), before.seal_exact("a", "x")
    assert after.unseal(sealed, "x") == after.unseal(exact, "x") == "a"
    assert not after.is_current(sealed)
    assert after.is_current(after.seal("a", "x"))
    assert after.exact_forms("a", "x") == [KeyVault([NEW]).seal_exact("a", "x"), exact]
    with pytest.raises(ValueError):
        KeyVault([NEW]).unseal(sealed, "x")


def test_a_digest_depends_on_key_purpose_and_text() -> None:
    vault = KeyVault([NEW])
    others = [vault.digest("1", "y"), vault.digest("2", "x"), KeyVault([OLD]).digest("1", "x")]
    assert vault.digest("1", "x") == KeyVault([NEW, OLD]).digest("1", "x")
    assert vault.digest("1", "x") not in others


@pytest.mark.parametrize("keys", [[], [b"short"], [NEW, b"x" * 31]])
def test_a_key_of_another_length_is_refused(keys: list[bytes]) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        KeyVault(keys)
