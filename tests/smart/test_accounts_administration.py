"""What administrators do with accounts, what it ends, and what the audit is told."""

from __future__ import annotations

import dataclasses
import threading

import pytest

from smart_auth.accounts import Accounts, LoginFailed, NotPossible, UnusableValue
from smart_auth.context import Auth
from smart_auth.records import Account, Grant, RoleLink
from smart_auth.resealing import Resealed, reseal
from smart_auth.vault import KeyVault
from tests.support.accounts import RecordingAudit, RecordingNotifier
from tests.support.directory import MemoryDirectory
from tests.support.records import Opener

PASSWORD = "correct horse battery 9"
PHONE = "+8613800138000"


@pytest.fixture
def shen(auth: Auth, directory: MemoryDirectory) -> Account:
    """A doctor who is an administrator too, with a session and a grant of each role."""
    directory.add_staff("shen", "沈")
    directory.add_staff("boss", "彭")
    directory.add_patient("p", "沈", "p")
    link = [RoleLink(role=role, fhir_user="Practitioner/shen") for role in ("doctor", "administrator")]
    boss = RoleLink(role="administrator", fhir_user="Practitioner/boss")
    auth.accounts.create("彭", username="boss", password=PASSWORD, roles=(boss,), id="boss")
    made = auth.accounts.create("沈", username="shen", password=PASSWORD, roles=tuple(link), phone=PHONE)
    for role in ("doctor", "administrator"):
        auth.store.insert(Grant(id=role, client="app", account=made.id, role=role))
    return made


def revoked(auth: Auth) -> set[str]:
    return {one.id for one in auth.store.page(Grant) if one.revoked_at is not None}


@pytest.mark.both_stores
def test_a_role_is_granted_as_a_person_of_the_records(auth: Auth, shen: Account, audit: RecordingAudit) -> None:
    changed = auth.accounts.grant_role(shen.id, "nurse", "Practitioner/shen", by="boss", address="192.0.2.1")
    assert changed == auth.accounts.get(shen.id)
    link = changed.roles[-1]
    assert (link.role, link.granted_by, link.granted_at) == ("nurse", "boss", auth.clock())
    event = audit.last("role-grant")
    assert (event.account, event.address, event.detail) == (shen.id, "192.0.2.1", {"by": "boss", "role": "nurse"})
    for role, reference in (
        ("king", "Practitioner/shen"),
        ("nurse", "Practitioner/nobody"),
        ("system", "Practitioner/shen"),
    ):
        with pytest.raises(NotPossible):
            auth.accounts.grant_role(shen.id, role, reference, by="boss")
    with pytest.raises(NotPossible):
        auth.accounts.grant_role("nobody", "nurse", "Practitioner/shen", by="boss")


def test_a_role_as_somebody_else_ends_what_was_granted_before(auth: Auth, shen: Account) -> None:
    auth.accounts.grant_role(shen.id, "doctor", "Practitioner/shen", by="boss")
    assert revoked(auth) == set()
    changed = auth.accounts.grant_role(shen.id, "doctor", "Practitioner/boss", by="boss")
    assert [link.fhir_user for link in changed.roles if link.role == "doctor"] == ["Practitioner/boss"]
    assert revoked(auth) == {"doctor"}


@pytest.mark.both_stores
def test_revoking_a_role_ends_its_sessions_and_grants_only(auth: Auth, shen: Account, audit: RecordingAudit) -> None:
    doctor, _ = auth.accounts.sessions.start(shen.id, ("pwd",), role="doctor")
    administrator, _ = auth.accounts.sessions.start(shen.id, ("pwd",), role="administrator")
    changed = auth.accounts.revoke_role(shen.id, "administrator", by="boss")
    assert [link.role for link in changed.roles] == ["doctor"]
    assert revoked(auth) == {"administrator"}
    assert auth.accounts.sessions.load(administrator) is None
    assert auth.accounts.sessions.load(doctor) is not None
    assert audit.last("role-revoke").detail == {"by": "boss", "role": "administrator"}


def test_the_last_administrator_stays(auth: Auth, shen: Account) -> None:
    auth.accounts.lock("boss", by=shen.id)
    for act in (
        lambda: auth.accounts.revoke_role(shen.id, "administrator", by=shen.id),
        lambda: auth.accounts.lock(shen.id, by=shen.id),
        lambda: auth.accounts.close(shen.id, by=shen.id),
    ):
        with pytest.raises(NotPossible):
            act()
    found = auth.accounts.get(shen.id)
    assert found is not None
    assert found.status == "active"
    auth.accounts.unlock("boss", by=shen.id)
    auth.accounts.lock(shen.id, by="boss")


@pytest.mark.both_stores
@pytest.mark.parametrize("act", ["lock", "close", "revoke_role"])
def test_administrators_who_remove_each_other_at_once_leave_one(
    auth: Auth, shen: Account, open_it: Opener, act: str
) -> None:
    """Each by a worker of its own, and the second begins when the first has found that there is another one."""
    elsewhere = dataclasses.replace(auth, store=open_it())
    elsewhere.accounts = Accounts(elsewhere)
    role = ("administrator",) if act == "revoke_role" else ()
    refused: list[str] = []

    def remove(mine: Auth, account_id: str, by: str) -> None:
        try:
            getattr(mine.accounts, act)(account_id, *role, by=by)
        except NotPossible:
            refused.append(account_id)

    second = threading.Thread(target=remove, args=(elsewhere, shen.id, "boss"))
    look = auth.accounts._require_another_administrator

    def look_and_wait(leaving: str) -> None:
        look(leaving)
        if second.ident is None:
            second.start()
            second.join(1)  # ends now where nothing waits for the first one

    auth.accounts._require_another_administrator = look_and_wait  # type: ignore[method-assign]
    remove(auth, "boss", shen.id)
    second.join(30)
    left = [
        one.id
        for one in auth.store.page(Account)
        if one.status == "active" and any(link.role == "administrator" for link in one.roles)
    ]
    assert left == refused
    assert len(left) == 1


@pytest.mark.parametrize("act", ["lock", "close"])
def test_locking_and_closing_end_everything(auth: Auth, shen: Account, audit: RecordingAudit, act: str) -> None:
    cookie, _ = auth.accounts.sessions.start(shen.id, ("pwd",), role="doctor")
    getattr(auth.accounts, act)(shen.id, by="boss")
    assert auth.accounts.sessions.load(cookie) is None
    assert revoked(auth) == {"doctor", "administrator"}
    assert audit.last(f"account-{act}").detail == {"by": "boss"}


def test_a_closed_account_keeps_no_secrets_and_stays_closed(auth: Auth, shen: Account) -> None:
    closed = auth.accounts.close(shen.id, by="boss")
    assert (closed.status, closed.username, closed.phone, closed.password_hash) == ("closed", None, None, None)
    with pytest.raises(NotPossible):
        auth.accounts.unlock(shen.id, by="boss")


@pytest.mark.both_stores
def test_a_new_password_ends_everything_but_the_session_at_hand(
    auth: Auth, shen: Account, audit: RecordingAudit
) -> None:
    here, session = auth.accounts.sessions.start(shen.id, ("pwd",))
    there, _ = auth.accounts.sessions.start(shen.id, ("pwd",))
    auth.accounts.set_password(shen.id, "seven purple elephants 4", "192.0.2.1", keep_session=session.id)
    assert auth.accounts.sessions.load(here) is not None
    assert auth.accounts.sessions.load(there) is None
    assert revoked(auth) == {"doctor", "administrator"}
    event = audit.last("password-change")
    assert (event.account, event.address) == (shen.id, "192.0.2.1")


def test_a_given_password_has_to_be_changed_and_ends_everything(
    auth: Auth, shen: Account, notifier: RecordingNotifier
) -> None:
    cookie, _ = auth.accounts.sessions.start(shen.id, ("pwd",))
    password = auth.accounts.give_password(shen.id, by="boss")
    with pytest.raises(LoginFailed):
        auth.accounts.authenticate("shen", PASSWORD)
    found = auth.accounts.get(shen.id)
    assert found is not None
    assert found.must_change_password
    assert auth.accounts.sessions.load(cookie) is None
    assert password not in repr(notifier.sent)


def test_a_person_is_linked_that_exists(auth: Auth, shen: Account) -> None:
    assert auth.accounts.link_person(shen.id, "Person/p", by="boss").person == "Person/p"
    assert revoked(auth) == {"doctor", "administrator"}
    for reference in ("Person/nobody", "Practitioner/shen", ""):
        with pytest.raises(NotPossible):
            auth.accounts.link_person(shen.id, reference, by="boss")
    assert auth.accounts.link_person(shen.id, None, by="boss").person is None


def test_names_change(auth: Auth, shen: Account, audit: RecordingAudit) -> None:
    assert auth.accounts.rename(shen.id, " 沈医生 ").name == "沈医生"
    assert auth.accounts.set_username(shen.id, "Shen-2").username == "shen-2"
    assert auth.accounts.set_locale(shen.id, "en").locale == "en"
    assert audit.actions().count("account-change") == 2
    with pytest.raises(UnusableValue):
        auth.accounts.set_username(shen.id, "boss")
    with pytest.raises(UnusableValue):
        auth.accounts.set_username(shen.id, "x")


def test_acts_on_nobody_are_not_possible(auth: Auth) -> None:
    for act in (
        lambda: auth.accounts.lock("nobody", by="a"),
        lambda: auth.accounts.unlock("nobody", by="a"),
        lambda: auth.accounts.close("nobody", by="a"),
        lambda: auth.accounts.revoke_role("nobody", "doctor", by="a"),
        lambda: auth.accounts.set_password("nobody", PASSWORD),
        lambda: auth.accounts.give_password("nobody", by="a"),
        lambda: auth.accounts.second_factor.enrol("nobody"),
    ):
        with pytest.raises(NotPossible):
            act()


@pytest.mark.both_stores
def test_accounts_are_found_while_the_master_key_changes_and_sealed_anew(auth: Auth, shen: Account) -> None:
    secret, _ = auth.accounts.second_factor.enrol(shen.id)
    old, new = bytes(range(32)), bytes(32)
    auth.vault = KeyVault([new, old])
    assert auth.accounts.by_login(PHONE) == auth.accounts.get(shen.id)
    with pytest.raises(UnusableValue):
        auth.accounts.create("other", phone=PHONE)
    assert reseal(auth.store, auth.vault) == Resealed(done=1)
    assert reseal(auth.store, auth.vault) == Resealed()
    auth.vault = KeyVault([new])
    found = auth.accounts.by_login(PHONE)
    assert found is not None
    assert found.totp_pending is not None
    assert auth.vault.unseal(found.totp_pending, "totp") == secret
