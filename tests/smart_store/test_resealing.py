"""Sealing records anew under another master key: all kinds, as often as wanted, whatever interrupts it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from smart_auth.records import Account, Client, Key, Message, OneTime, Record
from smart_auth.resealing import FIELDS, Resealed, counts, reseal
from smart_auth.store.protocol import AuthStore
from smart_auth.vault import KeyVault, key_id

OLD, NEW = bytes(range(32)), bytes(32)
DEMO = {"demo": "demo"}


def fill(store: AuthStore, vault: KeyVault, accounts: int = 3) -> None:
    """Accounts, a signing key, a message and secrets of a demo, with the same texts each time."""
    for number in range(accounts):
        store.put(
            Account(
                id=f"a{number}",
                name="",
                phone=vault.seal_exact(f"+86138{number:08}", "phone"),
                email=vault.seal_exact(f"{number}@example.org", "email"),
                totp_secret=vault.seal("secret", "totp"),
            )
        )
    store.put(Account(id="bare", name=""))
    store.put(Key(id="k", alg="ES256", public={}, private=vault.seal("private", "signing-key")))
    store.put(Message(id="m", channel="sms", to=vault.seal("to", "message"), text=vault.seal("text", "message")))
    store.put(OneTime(id="demo", value={"sealed": vault.seal("all", "demo"), "beside": 1}))
    store.put(Client(id="c", name="", type="public"))


def opened(store: AuthStore, vault: KeyVault) -> list[Any]:
    """Everything that is sealed, in clear. Raises ValueError for what this vault does not open."""
    found: list[Any] = []
    for kind, purposes in FIELDS.items():
        for record in store.page(kind):
            texts = {name: getattr(record, name) for name in purposes}
            found.append({name: text and vault.unseal(text, purposes[name]) for name, text in texts.items()})
    demo = store.get(OneTime, "demo")
    assert demo is not None
    return [*found, vault.unseal(demo.value["sealed"], "demo"), demo.value["beside"]]


def test_everything_opens_with_the_new_key_alone(store: AuthStore) -> None:
    fill(store, KeyVault([OLD]))
    before = opened(store, KeyVault([OLD]))
    assert counts(store, DEMO) == {key_id(OLD): 6}
    assert reseal(store, KeyVault([NEW, OLD]), DEMO) == Resealed(done=6)
    assert opened(store, KeyVault([NEW])) == before
    assert counts(store, DEMO) == {key_id(NEW): 6}
    assert store.find(Account, phone=KeyVault([NEW]).seal_exact("+8613800000001", "phone"))[0].id == "a1"
    assert reseal(store, KeyVault([NEW, OLD]), DEMO) == Resealed()


def test_what_was_interrupted_is_done_again(store: AuthStore, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(store, KeyVault([OLD]))
    before, change, calls = opened(store, KeyVault([OLD])), store.change, 0

    def breaks(kind: type[Record], id: str, work: Callable[[Any], Any]) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return change(kind, id, work)

    with monkeypatch.context() as broken, pytest.raises(KeyboardInterrupt):
        broken.setattr(store, "change", breaks)
        reseal(store, KeyVault([NEW, OLD]), DEMO)
    assert opened(store, KeyVault([NEW, OLD])) == before
    assert counts(store, DEMO) == {key_id(NEW): 2, key_id(OLD): 4}
    assert reseal(store, KeyVault([NEW, OLD]), DEMO) == Resealed(done=4)
    assert opened(store, KeyVault([NEW])) == before


def test_what_a_missing_key_sealed_is_left_and_counted(store: AuthStore) -> None:
    fill(store, KeyVault([OLD]))
    before = store.page(Account)
    assert reseal(store, KeyVault([NEW]), DEMO) == Resealed(left=6)
    assert store.page(Account) == before


def test_a_number_that_somebody_took_meanwhile_is_left(store: AuthStore) -> None:
    fill(store, KeyVault([OLD]), accounts=1)
    store.put(Account(id="other", name="", phone=KeyVault([NEW]).seal_exact("+8613800000000", "phone")))
    assert reseal(store, KeyVault([NEW, OLD])).left == 1
