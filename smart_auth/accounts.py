"""Accounts (K1): logging in, registering, recovering, and what administrators do with them.

Nothing here tells whether an account exists: an unknown one fails like a wrong password, costs as much, is throttled
and locked alike; asking for a code is answered alike.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from smart_auth import codes, limits, notices, passwords
from smart_auth.context import ROLES, AuthEvent
from smart_auth.identifiers import email_of, name_of, normal_email, normal_phone, normal_username, phone_of, username_of
from smart_auth.notices import EMAIL_PURPOSE, PHONE_PURPOSE
from smart_auth.problems import (
    N_,
    Locked,
    LoginFailed,
    NotPossible,
    Problem,
    Throttled,
    UnusableValue,
    WeakPassword,
    WrongCode,
)
from smart_auth.records import Account, Grant, OneTime, RoleLink
from smart_auth.secondfactor import TOTP_PURPOSE, SecondFactor
from smart_auth.sessions import Sessions, revoke
from smart_auth.store.protocol import Taken

if TYPE_CHECKING:
    from smart_auth.context import Auth

__all__ = [
    "EMAIL_PURPOSE",
    "PHONE_PURPOSE",
    "TOTP_PURPOSE",
    "Accounts",
    "Locked",
    "LoginFailed",
    "MustChange",
    "NotPossible",
    "Problem",
    "Throttled",
    "UnusableValue",
    "WeakPassword",
    "WrongCode",
    "first_administrator",
    "normal_phone",
]

FIRST_ADMINISTRATOR: Final = "first-administrator"
"""Id of the account that the first start makes."""

NO_ACCOUNT: Final = N_("There is no such account.")


class MustChange(Problem):
    """The password is right, but has to be changed before anything else: `account` may only set a new one."""

    message = N_("Choose a new password before you go on.")

    def __init__(self, account: Account) -> None:
        super().__init__()
        self.account = account


@dataclass(frozen=True, slots=True)
class _Attempt:
    """Who a login names: an account, or nobody, which then has a lock of its own."""

    account: Account | None
    key: str
    failures: int
    locked_until: int


class Accounts:
    """The accounts of one authorization server, with its `codes`, `second_factor`, `sessions` and `limits`."""

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

    # -- logging in ----------------------------------------------------------------------------------------------------

    def authenticate(self, login: str, password: str, address: str = "") -> Account:
        """The account of a right login and password; whether a second factor follows is the caller's to ask.

        Raises: LoginFailed, Locked, Throttled, MustChange (the password is right but was given by somebody else).
        """
        auth = self._auth
        try:
            self.limits.hit_address(limits.LOGIN_PER_ADDRESS, address)
            attempt = self._attempt(login)
            self.limits.hit(limits.LOGIN_PER_ACCOUNT, attempt.key)
        except Throttled:
            self._tell("login-failed", None, address, outcome=8, why="throttled")
            raise
        account = attempt.account
        right = passwords.verify(None if account is None else account.password_hash, password)
        if attempt.locked_until > auth.clock():
            self._tell("login-failed", account, address, outcome=8, why="locked")
            raise Locked(attempt.locked_until - auth.clock())
        if account is None or not right or account.status == "closed":
            self._failed(attempt, address)
            raise LoginFailed()
        self._check_open(account, address)
        assert account.password_hash is not None
        changes: dict[str, Any] = {"failures": 0, "locked_until": 0}
        if passwords.outdated(account.password_hash):
            changes["password_hash"] = passwords.hash_password(password)
        if account.failures or account.locked_until or "password_hash" in changes:
            account = self._change(account.id, **changes)
        if account.must_change_password:
            raise MustChange(account)
        return account

    def authenticate_by_code(self, phone: str, code: str, address: str = "") -> Account:
        """The account of a verified phone number and the code sent to it. Raises: WrongCode, Throttled, Locked."""
        target = phone_of(phone)
        self.codes.check(codes.LOGIN, target, code, address)
        account = self._exact("phone", target, PHONE_PURPOSE)
        if account is None or not _can_receive(account):
            raise WrongCode()
        self._check_open(account, address)
        return account

    def request_login_code(self, phone: str, address: str, locale: str | None = None) -> None:
        """Sends a code to log in with, if the phone number is somebody's. Raises: UnusableValue, Throttled."""
        target = phone_of(phone)
        account = self._exact("phone", target, PHONE_PURPOSE)
        known = account is not None and _can_receive(account)
        self.codes.send(codes.LOGIN, target, address, locale=locale, known=known)

    def _attempt(self, login: str) -> _Attempt:
        account = self.by_login(login)
        if account is not None:
            return _Attempt(account, account.id, account.failures, account.locked_until)
        key = self._auth.vault.digest(login.strip().casefold()[:200], "login")
        found = self._auth.store.get(OneTime, f"lock|{key}")
        if found is None:
            return _Attempt(None, key, 0, 0)
        return _Attempt(None, key, found.tries, found.value["locked_until"])

    def _failed(self, attempt: _Attempt, address: str) -> None:
        """Counts a wrong password; the last one allowed locks."""
        auth, now = self._auth, self._auth.clock()
        settings = auth.settings
        until = now + settings.lockout_s

        if attempt.account is None:
            locks = attempt.failures + 1 >= settings.lockout_failures
            auth.store.put(
                OneTime(
                    id=f"lock|{attempt.key}",
                    created_at=now,
                    expires_at=until if locks else now + 86_400,
                    tries=0 if locks else attempt.failures + 1,
                    value={"locked_until": until if locks else 0},
                )
            )
            self._tell("login-failed", None, address, outcome=4)
            return

        def change(found: Account) -> Account:
            if found.failures + 1 >= settings.lockout_failures:
                return msgspec.structs.replace(found, failures=0, locked_until=until)
            return msgspec.structs.replace(found, failures=found.failures + 1)

        changed = auth.store.change(Account, attempt.account.id, change)
        self._tell("login-failed", attempt.account, address, outcome=4)
        if changed is not None and changed.locked_until == until and changed.failures == 0:
            self._tell("account-lockout", changed, address, outcome=8)
            if changed.status == "active":
                notices.tell(auth, changed, notices.LOCKED, minutes=settings.lockout_s // 60)

    def _check_open(self, account: Account, address: str) -> None:
        if account.status == "locked":
            self._tell("login-failed", account, address, outcome=8, why="locked")
            raise Locked()
        if account.status != "active":
            raise LoginFailed()

    # -- registering ---------------------------------------------------------------------------------------------------

    def request_registration_code(self, phone: str, address: str, locale: str | None = None) -> None:
        """Sends a code to register with. A number that has an account gets a notice instead; the answer is the same.

        Raises: UnusableValue, Throttled, NotPossible (people cannot register here).
        """
        if not self._auth.settings.self_registration:
            raise NotPossible(N_("Accounts are made by the hospital."))
        target = phone_of(phone)
        known = self._exact("phone", target, PHONE_PURPOSE) is None
        self.codes.send(codes.REGISTER, target, address, locale=locale, known=known, notice=notices.TRIED_TO_REGISTER)

    def register(
        self, name: str, phone: str, code: str, password: str, address: str = "", locale: str | None = None
    ) -> Account:
        """A patient's account, with the Person and Patient that it is.

        Raises: UnusableValue, WeakPassword (before the code is used up), WrongCode, Throttled, NotPossible.
        """
        auth = self._auth
        if not auth.settings.self_registration:
            raise NotPossible(N_("Accounts are made by the hospital."))
        self.limits.hit_address(limits.REGISTRATION_PER_ADDRESS, address)
        name, target = name_of(name), phone_of(phone)
        self._check_password(password, (name, target))
        self.codes.check(codes.REGISTER, target, code, address)
        try:
            account = self.create(name, phone=target, phone_verified=True, password=password, locale=locale)
        except UnusableValue:
            raise WrongCode() from None  # somebody else registered it meanwhile
        try:
            person, patient = auth.directory.register(name, target, None, locale or auth.settings.default_locale)
        except BaseException:
            auth.store.delete(Account, account.id)
            raise
        link = RoleLink(role="patient", fhir_user=patient, granted_at=auth.clock())
        account = self._change(account.id, person=person, roles=(link,))
        self._tell("account-create", account, address)
        return account

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

    # -- passwords and recovery ----------------------------------------------------------------------------------------

    def set_password(
        self, account_id: str, password: str, address: str = "", *, keep_session: str | None = None
    ) -> None:
        """A new password, which ends every session but `keep_session` and revokes every grant.

        Raises: WeakPassword, NotPossible.
        """
        account = self._need(account_id)
        known = (account.name, account.username, self.phone(account), self.email(account))
        self._check_password(password, known, account.password_hash)
        now = self._auth.clock()
        changed = self._change(
            account_id,
            password_hash=passwords.hash_password(password),
            password_changed_at=now,
            must_change_password=False,
            failures=0,
            locked_until=0,
        )
        self.end_access(account_id, keep_session=keep_session)
        self._tell("password-change", changed, address)
        notices.tell(self._auth, changed, notices.PASSWORD_CHANGED)

    def check_password(self, account_id: str, password: str, address: str = "") -> None:
        """Asks for the password again before something that matters. Raises: LoginFailed, Locked, Throttled."""
        account = self._need(account_id)
        self.limits.hit_address(limits.LOGIN_PER_ADDRESS, address)
        self.limits.hit(limits.LOGIN_PER_ACCOUNT, account.id)
        if account.locked_until > self._auth.clock():
            raise Locked(account.locked_until - self._auth.clock())
        if not passwords.verify(account.password_hash, password):
            self._failed(_Attempt(account, account.id, account.failures, account.locked_until), address)
            raise LoginFailed()

    def request_reset_code(self, login: str, address: str, locale: str | None = None) -> None:
        """Sends a code to set a new password with, to the phone number or e-mail address that was typed, if it is
        verified. Raises: UnusableValue (neither a phone number nor an e-mail address), Throttled.
        """
        target, account = self._recoverable(login)
        self.codes.send(codes.RESET, target, address, locale=locale, known=account is not None)

    def reset_password(self, login: str, code: str, password: str, address: str = "") -> Account:
        """Sets a new password by a code; every session ends and every grant is revoked.

        A refused password uses up the code only if the code was right, so that nobody learns of an account's password.
        Raises: UnusableValue, WrongCode, WeakPassword, Throttled.
        """
        target, account = self._recoverable(login)
        self._check_password(password, (target,))
        self.codes.check(codes.RESET, target, code, address)
        if account is None:
            raise WrongCode()
        self.set_password(account.id, password, address)
        return self._need(account.id)

    def _recoverable(self, login: str) -> tuple[str, Account | None]:
        email = normal_email(login)
        if email is not None:
            account = self._exact("email", email, EMAIL_PURPOSE)
            able = account is not None and account.email_verified and account.status != "closed"
            return email, account if able else None
        phone = phone_of(login)
        account = self._exact("phone", phone, PHONE_PURPOSE)
        return phone, account if account is not None and _can_receive(account) else None

    def _check_password(self, password: str, known: tuple[str | None, ...], current: str | None = None) -> None:
        reasons = passwords.weaknesses(password, known)
        if not reasons and current is not None and passwords.verify(current, password):
            reasons = [passwords.UNCHANGED]
        if reasons:
            raise WeakPassword(reasons)

    # -- phone, e-mail and name ----------------------------------------------------------------------------------------

    def request_contact_code(self, account_id: str, contact: str, address: str) -> None:
        """Sends a code to a phone number or an e-mail address that an account wants to have or to verify. One that
        another account has gets nothing, or a notice; the answer is the same. Raises: UnusableValue, Throttled.
        """
        account = self._need(account_id)
        field, target = _contact(contact)
        holder = self._exact(field, target, field)
        free = holder is None or holder.id == account_id
        purpose = codes.VERIFY_PHONE if field == "phone" else codes.VERIFY_EMAIL
        self.codes.send(purpose, target, address, subject=account_id, locale=account.locale, known=free)

    def confirm_contact(self, account_id: str, contact: str, code: str, address: str = "") -> Account:
        """Makes a phone number or e-mail address the account's own and verified. Raises: UnusableValue, WrongCode,
        Throttled.
        """
        field, target = _contact(contact)
        purpose = codes.VERIFY_PHONE if field == "phone" else codes.VERIFY_EMAIL
        self.codes.check(purpose, target, code, address, subject=account_id)
        values = {field: self._auth.vault.seal_exact(target, field), f"{field}_verified": True}
        try:
            changed = self._change(account_id, **values)
        except Taken:
            raise WrongCode() from None
        self._tell("contact-change", changed, address, field=field)
        return changed

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

    # -- administration ------------------------------------------------------------------------------------------------

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
        if role == "administrator":
            self._keep_one_administrator(account_id)

        def change(found: Account) -> Account:
            roles = tuple(one for one in found.roles if one.role != role)
            return msgspec.structs.replace(found, roles=roles, updated_at=self._auth.clock())

        changed = self._auth.store.change(Account, account_id, change)
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
        if any(link.role == "administrator" for link in self._need(account_id).roles):
            self._keep_one_administrator(account_id)
        changed = self._change(account_id, status=status)
        self.end_access(account_id)
        self._tell(action, changed, address, by=by)
        return changed

    def _keep_one_administrator(self, leaving: str) -> None:
        after = ""
        while page := self._auth.store.page(Account, after=after):
            for one in page:
                if one.id != leaving and one.status == "active" and any(r.role == "administrator" for r in one.roles):
                    return
            after = page[-1].id
        raise NotPossible(N_("The last administrator has to stay."))

    def reseal(self) -> int:
        """Seals phone numbers, e-mail addresses and secrets anew that are under an earlier master key; returns how many
        accounts were changed. After it the earlier key may go, as far as accounts are concerned.
        """
        vault, count, after = self._auth.vault, 0, ""

        def renew(found: Account) -> Account | None:
            values: dict[str, str] = {}
            for field, purpose in (("phone", PHONE_PURPOSE), ("email", EMAIL_PURPOSE)):
                sealed = getattr(found, field)
                if sealed is not None:
                    values[field] = vault.seal_exact(vault.unseal(sealed, purpose), purpose)
            for field in ("totp_secret", "totp_pending"):
                sealed = getattr(found, field)
                if sealed is not None and not vault.is_current(sealed):
                    values[field] = vault.seal(vault.unseal(sealed, TOTP_PURPOSE), TOTP_PURPOSE)
            changed = msgspec.structs.replace(found, **values)
            return None if changed == found else changed

        while page := self._auth.store.page(Account, after=after):
            count += sum(self._auth.store.change(Account, one.id, renew) is not None for one in page)
            after = page[-1].id
        return count

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


def first_administrator(auth: Auth, *, person: str | None = None, fhir_user: str = "") -> tuple[str, str] | None:
    """Makes the account of the first administrator once: (user name, password to be used once). None when it was made
    before. `person` and `fhir_user` are who it is in the records, if anybody.
    """
    password = passwords.generate()
    link = RoleLink(role="administrator", fhir_user=fhir_user, granted_at=auth.clock())
    accounts = Accounts(auth)
    for username in ("admin", "administrator", f"admin-{secrets.token_hex(3)}"):
        if auth.store.get(Account, FIRST_ADMINISTRATOR) is not None:
            return None
        try:
            account = accounts.create(
                "Administrator",
                username=username,
                password=password,
                must_change_password=True,
                person=person,
                roles=(link,),
                id=FIRST_ADMINISTRATOR,
            )
        except UnusableValue:
            continue
        accounts._tell("account-create", account, "", role="administrator")
        return username, password
    return None


def _can_receive(account: Account) -> bool:
    return account.phone_verified and account.status != "closed"


def _contact(text: str) -> tuple[str, str]:
    """("email" or "phone", the normal form), which are the purposes of sealing too."""
    return ("email", email_of(text)) if "@" in text else ("phone", phone_of(text))


def _taken(field: str) -> UnusableValue:
    return UnusableValue(field, N_("This is taken already."))
