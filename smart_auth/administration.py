"""Accounts as administrators keep them: made, named, given roles, locked, closed."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from smart_auth import codes, limits, passwords
from smart_auth.context import ROLES, AuthEvent
from smart_auth.identifiers import email_of, name_of, normal_email, normal_phone, normal_username, phone_of, username_of
from smart_auth.notices import EMAIL_PURPOSE, PHONE_PURPOSE
from smart_auth.problems import N_, NotPossible, UnusableValue
from smart_auth.records import Account, Grant, RoleLink
from smart_auth.secondfactor import SecondFactor
from smart_auth.sessions import Sessions, revoke
from smart_auth.store.protocol import Taken

if TYPE_CHECKING:
    from smart_auth.context import Auth

NO_ACCOUNT: Final = N_("There is no such account.")


class Administration:
    """Keeps the accounts of one authorization server. `by` is the id of the administrator who acts."""

    def __init__(self, auth: Auth) -> None:
        self._auth = auth
        self.limits = limits.Limits(auth)
        self.codes = codes.Codes(auth, self.limits)
        self.second_factor = SecondFactor(auth, self.limits)
        self.sessions = Sessions(auth)

    # -- finding -------------------------------------------------------------------------------------------------------

    def get(self, account_id: str) -> Account | None:
        """The account of an id, whatever its status."""
        return self._auth.store.get(Account, account_id)

    def by_login(self, login: str) -> Account | None:
        """The account that a user name, a phone number in any usual writing, or an e-mail address names."""
        email, phone = normal_email(login), normal_phone(login)
        if email is not None:
            return self._exact("email", email, EMAIL_PURPOSE)
        if phone is not None:
            return self._exact("phone", phone, PHONE_PURPOSE)
        username = normal_username(login)
        found = self._auth.store.find(Account, username=username) if username is not None else []
        return found[0] if found else None

    def _exact(self, field: str, text: str, purpose: str) -> Account | None:
        for sealed in self._auth.vault.exact_forms(text, purpose):
            found = self._auth.store.find(Account, **{field: sealed})
            if found:
                return found[0]
        return None

    def phone(self, account: Account) -> str | None:
        """The phone number in the clear."""
        return None if account.phone is None else self._auth.vault.unseal(account.phone, PHONE_PURPOSE)

    def email(self, account: Account) -> str | None:
        """The e-mail address in the clear."""
        return None if account.email is None else self._auth.vault.unseal(account.email, EMAIL_PURPOSE)

    def create(
        self,
        name: str,
        *,
        username: str | None = None,
        phone: str | None = None,
        phone_verified: bool = False,
        email: str | None = None,
        password: str | None = None,
        must_change_password: bool = False,
        person: str | None = None,
        roles: tuple[RoleLink, ...] = (),
        locale: str | None = None,
        demo: bool = False,
        id: str | None = None,
    ) -> Account:
        """A new account; the password is not judged here. Raises: UnusableValue for what is taken or malformed."""
        auth, now = self._auth, self._auth.clock()
        number, mail = phone_of(phone) if phone else None, email_of(email) if email else None
        for field, text, purpose in (("phone", number, PHONE_PURPOSE), ("email", mail, EMAIL_PURPOSE)):
            if text is not None and self._exact(field, text, purpose) is not None:
                raise _taken(field)
        account = Account(
            id=id or secrets.token_hex(12),
            name=name_of(name),
            username=username_of(username) if username else None,
            phone=auth.vault.seal_exact(number, PHONE_PURPOSE) if number else None,
            phone_verified=phone_verified and number is not None,
            email=auth.vault.seal_exact(mail, EMAIL_PURPOSE) if mail else None,
            person=person,
            roles=roles,
            password_hash=passwords.hash_password(password) if password is not None else None,
            must_change_password=must_change_password,
            password_changed_at=now,
            locale=locale,
            demo=demo,
            created_at=now,
            updated_at=now,
        )
        try:
            auth.store.insert(account)
        except Taken as error:
            raise _taken(error.field) from None
        return account

    def rename(self, account_id: str, name: str, address: str = "", *, by: str | None = None) -> Account:
        """Another name to show. Raises: UnusableValue, NotPossible."""
        changed = self._change(account_id, name=name_of(name))
        self._tell("account-change", changed, address, by=by, field="name")
        return changed

    def set_username(self, account_id: str, username: str, address: str = "", *, by: str | None = None) -> Account:
        """A user name of one's own. Raises: UnusableValue when malformed or taken, NotPossible."""
        try:
            changed = self._change(account_id, username=username_of(username))
        except Taken:
            raise _taken("username") from None
        self._tell("account-change", changed, address, by=by, field="username")
        return changed

    def set_locale(self, account_id: str, locale: str) -> Account:
        """The language that messages are sent in. Raises: NotPossible."""
        return self._change(account_id, locale=locale)

    def grant_role(self, account_id: str, role: str, fhir_user: str, *, by: str, address: str = "") -> Account:
        """Gives an account a role, as `fhir_user` (a relative reference, which has to exist). Raises: NotPossible."""
        if role not in ROLES:
            raise NotPossible(N_("There is no such role."))
        if not self._auth.directory.exists(fhir_user):
            raise NotPossible(N_("There is no such person in the records."))
        account = self._need(account_id)
        link = RoleLink(role=role, fhir_user=fhir_user, granted_at=self._auth.clock(), granted_by=by)
        before = next((one for one in account.roles if one.role == role), None)
        if before is not None and before.fhir_user == fhir_user:
            return account
        if before is not None:
            self.end_access(account_id, role=role)

        def change(found: Account) -> Account:
            roles = (*(one for one in found.roles if one.role != role), link)
            return msgspec.structs.replace(found, roles=roles, updated_at=self._auth.clock())

        changed = self._auth.store.change(Account, account_id, change)
        if changed is None:
            raise NotPossible(NO_ACCOUNT)
        self._tell("role-grant", changed, address, by=by, role=role)
        return changed

    def revoke_role(self, account_id: str, role: str, *, by: str, address: str = "") -> Account:
        """Takes a role away, and with it the sessions and grants of that role. Raises: NotPossible, also for the last
        administrator.
        """

        def change(found: Account) -> Account:
            roles = tuple(one for one in found.roles if one.role != role)
            return msgspec.structs.replace(found, roles=roles, updated_at=self._auth.clock())

        changed = self._change_rights(account_id, change)
        if changed is None:
            raise NotPossible(NO_ACCOUNT)
        self.end_access(account_id, role=role)
        self._tell("role-revoke", changed, address, by=by, role=role)
        return changed

    def lock(self, account_id: str, *, by: str, address: str = "") -> Account:
        """Keeps an account from logging in and ends what it has open. Raises: NotPossible."""
        return self._set_status(account_id, "locked", "account-lock", by, address)

    def unlock(self, account_id: str, *, by: str, address: str = "") -> Account:
        """Opens a locked account again, a lockout by wrong passwords too. Raises: NotPossible for a closed one."""
        if self._need(account_id).status == "closed":
            raise NotPossible(N_("A closed account stays closed."))
        changed = self._change(account_id, status="active", failures=0, locked_until=0)
        self._tell("account-unlock", changed, address, by=by)
        return changed

    def close(self, account_id: str, *, by: str, address: str = "") -> Account:
        """Closes an account for ever; its phone number, address and user name become free. Raises: NotPossible."""
        self._set_status(account_id, "closed", "account-close", by, address)
        return self._change(
            account_id,
            username=None,
            phone=None,
            phone_verified=False,
            email=None,
            email_verified=False,
            password_hash=None,
            totp_secret=None,
            totp_pending=None,
            recovery_codes=(),
        )

    def link_person(self, account_id: str, person: str | None, *, by: str, address: str = "") -> Account:
        """Says which Person an account is, and so for whom it may act. Raises: NotPossible."""
        if person is not None and not (person.startswith("Person/") and self._auth.directory.exists(person)):
            raise NotPossible(N_("There is no such person in the records."))
        changed = self._change(account_id, person=person)
        self.end_access(account_id)
        self._tell("account-link", changed, address, by=by)
        return changed

    def give_password(self, account_id: str, *, by: str, address: str = "") -> str:
        """A password to be used once, for somebody whom no code reaches; returns it. Raises: NotPossible."""
        password = passwords.generate()
        changed = self._change(
            account_id,
            password_hash=passwords.hash_password(password),
            must_change_password=True,
            password_changed_at=self._auth.clock(),
            failures=0,
            locked_until=0,
        )
        self.end_access(account_id)
        self._tell("password-change", changed, address, by=by)
        return password

    def end_access(self, account_id: str, *, role: str | None = None, keep_session: str | None = None) -> None:
        """Ends sessions (but for one) and revokes grants of an account, or of one of its roles."""
        self.sessions.end_all(account_id, role=role, keep=keep_session)
        for grant in self._auth.store.find(Grant, account=account_id):
            if role in (None, grant.role) and grant.revoked_at is None:
                revoke(self._auth, grant)

    def _set_status(self, account_id: str, status: str, action: str, by: str, address: str) -> Account:
        changed = self._change_rights(
            account_id,
            lambda found: msgspec.structs.replace(found, status=status, updated_at=self._auth.clock()),
        )
        if changed is None:
            raise NotPossible(NO_ACCOUNT)
        self.end_access(account_id)
        self._tell(action, changed, address, by=by)
        return changed

    def _change_rights(self, account_id: str, change: Callable[[Account], Account]) -> Account | None:
        """Changes an account in a way that may take an administrator away. All such changes take turns, so that two
        administrators who remove each other at the same time leave one. Raises: NotPossible for the last one.
        """

        def keep_one(found: Account) -> Account:
            changed = change(found)
            if _administers(found) and not _administers(changed):
                self._require_another_administrator(account_id)
            return changed

        return self._auth.store.change(Account, account_id, keep_one, turn="administrators")

    def _require_another_administrator(self, leaving: str) -> None:
        after = ""
        while page := self._auth.store.page(Account, after=after):
            if any(one.id != leaving and _administers(one) for one in page):
                return
            after = page[-1].id
        raise NotPossible(N_("The last administrator has to stay."))

    # ------------------------------------------------------------------------------------------------------------------

    def _need(self, account_id: str) -> Account:
        account = self.get(account_id)
        if account is None:
            raise NotPossible(NO_ACCOUNT)
        return account

    def _change(self, account_id: str, **values: Any) -> Account:
        def change(found: Account) -> Account:
            return msgspec.structs.replace(found, updated_at=self._auth.clock(), **values)

        changed = self._auth.store.change(Account, account_id, change)
        if changed is None:
            raise NotPossible(NO_ACCOUNT)
        return changed

    def _tell(self, action: str, account: Account | None, address: str, outcome: int = 0, **detail: str | None) -> None:
        self._auth.audit(
            AuthEvent(
                action,
                outcome,
                account=account.id if account else None,
                name=account.name if account else None,
                address=address or None,
                detail={name: value for name, value in detail.items() if value is not None},
            )
        )


def _administers(account: Account) -> bool:
    """Whether an account is an administrator's who can log in (but for a lockout, which passes)."""
    return account.status == "active" and any(link.role == "administrator" for link in account.roles)


def _taken(field: str) -> UnusableValue:
    return UnusableValue(field, N_("This is taken already."))
