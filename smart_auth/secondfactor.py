"""The second factor: time-based codes (RFC 6238) and recovery codes.

A time step is accepted once, in a window of one step to either side. Recovery codes carry 80 random bits, are shown
once, kept as SHA-256, and work once each.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import unicodedata
from typing import TYPE_CHECKING, Final

import msgspec
import pyotp

from smart_auth import limits, notices
from smart_auth.context import AuthEvent
from smart_auth.problems import N_, NotPossible, Throttled, WrongCode
from smart_auth.records import Account

if TYPE_CHECKING:
    from smart_auth.context import Auth

TOTP_PURPOSE: Final = "totp"
STEP_S: Final = 30
WINDOW: Final = 1
RECOVERY_CODES: Final = 10
AMR: Final = "otp"
"""RFC 8176; a recovery code is a one-time password too."""

REQUIRED: Final = N_("Your role requires a second factor.")


class SecondFactor:
    """Sets up, checks and removes the second factor of accounts."""

    def __init__(self, auth: Auth, counts: limits.Limits) -> None:
        self._auth = auth
        self._limits = counts

    def required(self, account: Account) -> bool:
        """Whether the roles of an account need a second factor (a setting)."""
        return self._auth.settings.staff_second_factor and any(link.role != "patient" for link in account.roles)

    def missing(self, account: Account) -> bool:
        """Whether the account has to set one up before anything else."""
        return account.totp_secret is None and self.required(account)

    def enrol(self, account_id: str) -> tuple[str, str]:
        """A new secret, not yet in force: (base32, ``otpauth:`` URI for a QR code). The one in force stays until the
        new one is confirmed.
        """
        auth, secret = self._auth, pyotp.random_base32()
        sealed = auth.vault.seal(secret, TOTP_PURPOSE)
        account = self._change(account_id, totp_pending=sealed)
        label = account.username or account.name
        uri = pyotp.TOTP(secret, interval=STEP_S).provisioning_uri(name=label, issuer_name="Hestia")
        return secret, uri

    def confirm(self, account_id: str, code: str, address: str = "") -> list[str]:
        """Puts the pending secret in force once its code is right; returns the recovery codes, shown this once.

        Raises: WrongCode, Throttled, NotPossible (nothing pending).
        """
        auth = self._auth
        self._count(account_id, address)
        account = auth.store.get(Account, account_id)
        if account is None or account.totp_pending is None:
            raise NotPossible(N_("Start setting up the second factor again."))
        pending = account.totp_pending
        step = self._step(auth.vault.unseal(pending, TOTP_PURPOSE), code)
        if step is None:
            raise WrongCode()
        codes = _recovery_codes()

        def change(found: Account) -> Account | None:
            if found.totp_pending != pending:
                return None
            return msgspec.structs.replace(
                found,
                totp_secret=pending,
                totp_pending=None,
                totp_step=step,
                recovery_codes=tuple(_hash(one) for one in codes),
                updated_at=auth.clock(),
            )

        changed = auth.store.change(Account, account_id, change)
        if changed is None:
            raise WrongCode()
        self._tell("second-factor-on", changed, address)
        notices.tell(auth, changed, notices.SECOND_FACTOR_ON)
        return codes

    def verify(self, account_id: str, code: str, address: str = "") -> str:
        """Accepts a code of the app or a recovery code, once each; returns its ``amr`` (RFC 8176).

        Raises: WrongCode, Throttled.
        """
        auth = self._auth
        account = auth.store.get(Account, account_id)
        if account is None or account.totp_secret is None or account.status != "active":
            raise WrongCode()
        try:
            self._count(account_id, address)
        except Throttled:
            self._tell("second-factor-failed", account, address, outcome=8, why="throttled")
            raise
        if self._accept_step(account, code) is not None:
            return AMR
        if self._accept_recovery(account, code) is not None:
            self._tell("recovery-code-used", account, address)
            notices.tell(auth, account, notices.RECOVERY_CODE_USED)
            return AMR
        self._tell("second-factor-failed", account, address, outcome=4)
        raise WrongCode()

    def renew_recovery_codes(self, account_id: str, address: str = "") -> list[str]:
        """New recovery codes, shown this once; the earlier ones no longer work. Raises: NotPossible."""
        codes = _recovery_codes()
        account = self._auth.store.get(Account, account_id)
        if account is None or account.totp_secret is None:
            raise NotPossible(N_("There is no second factor."))
        changed = self._change(account_id, recovery_codes=tuple(_hash(one) for one in codes))
        self._tell("recovery-codes-renewed", changed, address)
        return codes

    def disable(self, account_id: str, address: str = "", *, by: str | None = None) -> None:
        """Removes the second factor. `by`: the administrator who does it for somebody who lost it, whatever the role.

        Raises: NotPossible when the role requires one.
        """
        account = self._auth.store.get(Account, account_id)
        if account is None or (account.totp_secret is None and account.totp_pending is None):
            return
        if by is None and self.required(account):
            raise NotPossible(REQUIRED)
        changed = self._change(account_id, totp_secret=None, totp_pending=None, totp_step=0, recovery_codes=())
        self._tell("second-factor-off", changed, address, by=by)
        notices.tell(self._auth, changed, notices.SECOND_FACTOR_OFF)

    # ------------------------------------------------------------------------------------------------------------------

    def _step(self, secret: str, code: str) -> int | None:
        """The time step whose code this is, near now."""
        code = "".join(unicodedata.normalize("NFKC", code[:64]).split())
        totp, now = pyotp.TOTP(secret, interval=STEP_S), self._auth.clock() // STEP_S
        found = None
        for step in range(now - WINDOW, now + WINDOW + 1):
            if pyotp.utils.strings_equal(totp.generate_otp(step), code):
                found = step
        return found

    def _accept_step(self, account: Account, code: str) -> Account | None:
        assert account.totp_secret is not None
        step = self._step(self._auth.vault.unseal(account.totp_secret, TOTP_PURPOSE), code)
        if step is None:
            return None

        def change(found: Account) -> Account | None:
            if found.totp_step >= step or found.totp_secret != account.totp_secret:
                return None
            return msgspec.structs.replace(found, totp_step=step)

        return self._auth.store.change(Account, account.id, change)

    def _accept_recovery(self, account: Account, code: str) -> Account | None:
        hashed = _hash(code)

        def change(found: Account) -> Account | None:
            left = tuple(one for one in found.recovery_codes if one != hashed)
            return None if left == found.recovery_codes else msgspec.structs.replace(found, recovery_codes=left)

        return self._auth.store.change(Account, account.id, change)

    def _count(self, account_id: str, address: str) -> None:
        self._limits.hit_address(limits.SECOND_FACTOR_PER_ADDRESS, address)
        self._limits.hit(limits.SECOND_FACTOR_PER_ACCOUNT, account_id)
        self._limits.hit(limits.SECOND_FACTOR_PER_DAY, account_id)

    def _change(self, account_id: str, **values: object) -> Account:
        changed = self._auth.store.change(
            Account,
            account_id,
            lambda found: msgspec.structs.replace(found, updated_at=self._auth.clock(), **values),
        )
        if changed is None:
            raise NotPossible(N_("There is no such account."))
        return changed

    def _tell(self, action: str, account: Account, address: str, outcome: int = 0, **detail: str | None) -> None:
        known = {name: value for name, value in detail.items() if value is not None}
        self._auth.audit(
            AuthEvent(action, outcome, account=account.id, name=account.name, address=address or None, detail=known)
        )


def _recovery_codes() -> list[str]:
    codes = []
    for _ in range(RECOVERY_CODES):
        text = base64.b32encode(secrets.token_bytes(10)).decode().lower()
        codes.append("-".join(text[at : at + 4] for at in range(0, 16, 4)))
    return codes


def _hash(code: str) -> str:
    """SHA-256 of a recovery code, however it was typed."""
    plain = "".join(char for char in code.lower() if char.isalnum())
    return hashlib.sha256(plain.encode()).hexdigest()
