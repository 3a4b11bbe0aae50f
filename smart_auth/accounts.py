"""Accounts (K1): what people do with their own, logging in, registering, recovering.

Nothing here tells whether an account exists: an unknown one fails like a wrong password, costs as much, is throttled
and locked alike; asking for a code is answered alike.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import msgspec

from smart_auth import codes, limits, notices, passwords
from smart_auth.administration import Administration
from smart_auth.identifiers import email_of, name_of, normal_email, normal_phone, phone_of
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
from smart_auth.records import Account, OneTime, RoleLink
from smart_auth.secondfactor import TOTP_PURPOSE
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


class Accounts(Administration):
    """What people do with their own accounts, beside what administrators do: `codes`, `second_factor`, `sessions` and
    `limits` are at hand.
    """

    # -- logging in ----------------------------------------------------------------------------------------------------

    def authenticate(self, login: str, password: str, address: str = "") -> Account:
        """The account of a right login and password; whether a second factor follows is the caller's to ask.

        Raises: LoginFailed, Locked, Throttled, MustChange (the password is right but was given by somebody else).
        """
        auth = self._auth
        self.limits.hit_address(limits.LOGIN_PER_ADDRESS, address)
        attempt = self._attempt(login)
        self.limits.hit(limits.LOGIN_PER_ACCOUNT, attempt.key)
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
        if account.demo and self._auth.settings.production:
            raise LoginFailed()
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

    # -- passwords and recovery ----------------------------------------------------------------------------------------

    def set_password(
        self, account_id: str, password: str, address: str = "", *, keep_session: str | None = None
    ) -> None:
        """A new password, which ends every session but `keep_session` and revokes every grant.

        Raises: WeakPassword, NotPossible.
        """
        account = self._need(account_id)
        self._check_password(password, self._known(account), account.password_hash)
        self._set_password(account, password, address, keep_session)

    def _known(self, account: Account) -> tuple[str | None, ...]:
        return account.name, account.username, self.phone(account), self.email(account)

    def _set_password(self, account: Account, password: str, address: str, keep_session: str | None = None) -> None:
        now = self._auth.clock()
        changed = self._change(
            account.id,
            password_hash=passwords.hash_password(password),
            password_changed_at=now,
            must_change_password=False,
            failures=0,
            locked_until=0,
        )
        self.end_access(account.id, keep_session=keep_session)
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

        A refused password leaves the code, so that another one can be tried.

        Raises: UnusableValue, WrongCode, WeakPassword, Throttled.
        """
        target, account = self._recoverable(login)
        self._check_password(password, (target,))
        with self.codes.checked(codes.RESET, target, code, address):
            if account is None:
                raise WrongCode()
            self._check_password(password, self._known(account), account.password_hash)
        self._set_password(account, password, address)
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
        settings = self._auth.settings
        service = (settings.tenant, urlsplit(settings.issuer).hostname)
        reasons = passwords.weaknesses(password, (*known, *service))
        if not reasons and current is not None and passwords.verify(current, password):
            reasons = [passwords.UNCHANGED]
        if reasons:
            raise WeakPassword(reasons)

    # -- phone, e-mail and name ----------------------------------------------------------------------------------------

    def request_contact_code(self, account_id: str, contact: str, address: str) -> None:
        """Sends a code to a phone number or an e-mail address that an account wants to have or to verify. One that
        another account has gets nothing; the answer is the same. Raises: UnusableValue, Throttled.
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
        holder, before = self._exact(field, target, field), self._need(account_id)
        if holder is not None and holder.id != account_id:
            raise WrongCode()  # it became somebody else's meanwhile
        values = {field: self._auth.vault.seal_exact(target, field), f"{field}_verified": True}
        try:
            changed = self._change(account_id, **values)
        except Taken:
            raise WrongCode() from None
        self._tell("contact-change", changed, address, field=field)
        if getattr(before, field) not in (None, getattr(changed, field)):
            notices.tell(self._auth, before, notices.CONTACT_CHANGED)
        return changed


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
