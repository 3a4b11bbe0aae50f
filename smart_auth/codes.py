"""One-time codes of six digits, sent to a phone or an e-mail address (K1).

A code lives 300 s and for five tries, and works once. What is stored is its keyed hash, under the keyed hash of where
it was sent. Nothing tells whether a code was really sent: a request for one without a holder stores a record that no
code fits.
"""

from __future__ import annotations

import hmac
import secrets
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import msgspec

from smart_auth import limits, notices
from smart_auth.problems import Throttled, WrongCode
from smart_auth.records import OneTime
from smart_auth.store.protocol import Taken

if TYPE_CHECKING:
    from smart_auth.context import Auth

REGISTER: Final = "register"
LOGIN: Final = "login"
RESET: Final = "reset"
VERIFY_PHONE: Final = "verify-phone"
VERIFY_EMAIL: Final = "verify-email"
LINK_PATIENT: Final = "link-patient"
PURPOSES: Final = (REGISTER, LOGIN, RESET, VERIFY_PHONE, VERIFY_EMAIL, LINK_PATIENT)

PAUSE_S: Final = 60
"""Between two codes to one target, whatever they are for."""


class Codes:
    """Sends and checks one-time codes. `target` is an E.164 number or an e-mail address, casefolded."""

    def __init__(self, auth: Auth, counts: limits.Limits) -> None:
        self._auth = auth
        self._limits = counts

    def send(
        self,
        purpose: str,
        target: str,
        address: str,
        *,
        subject: str = "",
        locale: str | None = None,
        known: bool = True,
        notice: str | None = None,
    ) -> None:
        """Sends a code, in place of an earlier one for the same purpose.

        `subject`: id of an account that the code is bound to. `known` False: everything happens but that a code is
        sent; instead of it `notice`, if there is one. Raises: Throttled.
        """
        auth, now = self._auth, self._auth.clock()
        self._limits.hit_address(limits.CODE_PER_ADDRESS, address)
        self._pause(target, now)
        self._limits.hit(limits.CODE_PER_TARGET, target)
        code = f"{secrets.randbelow(1_000_000):06}"
        auth.store.put(
            OneTime(
                id=self._id(purpose, target, subject),
                created_at=now,
                expires_at=now + auth.settings.otp_lifetime_s,
                value={"hash": auth.vault.digest(code, purpose) if known else ""},
            )
        )
        if known:
            minutes = auth.settings.otp_lifetime_s // 60
            notices.send(auth, target, notices.CODE, locale, code=code, minutes=minutes)
        elif notice is not None:
            notices.send(auth, target, notice, locale)

    def check(self, purpose: str, target: str, code: str, address: str, *, subject: str = "") -> None:
        """Returns for the right code, once. Raises: WrongCode, Throttled."""
        with self.checked(purpose, target, code, address, subject=subject):
            pass

    @contextmanager
    def checked(self, purpose: str, target: str, code: str, address: str, *, subject: str = "") -> Iterator[None]:
        """Runs the block if the code is right, and then uses it up: an exception of the block leaves it for another
        try. Raises: WrongCode, Throttled.
        """
        auth = self._auth
        self._limits.hit_address(limits.CODE_TRY_PER_ADDRESS, address)
        id = self._id(purpose, target, subject)
        found = auth.store.change(OneTime, id, lambda one: msgspec.structs.replace(one, tries=one.tries + 1))
        if found is None or found.tries > auth.settings.otp_tries:
            raise WrongCode()
        given = auth.vault.digest("".join(unicodedata.normalize("NFKC", code[:64]).split()), purpose)
        if not hmac.compare_digest(given, found.value["hash"]):
            raise WrongCode()
        yield
        taken = auth.store.take(OneTime, id)
        if taken is None or taken.value != found.value:
            raise WrongCode()

    def _pause(self, target: str, now: int) -> None:
        auth = self._auth
        id = f"otp-pause|{auth.vault.digest(target, 'otp target')}"
        try:
            auth.store.insert(OneTime(id=id, created_at=now, expires_at=now + PAUSE_S))
        except Taken:
            found = auth.store.get(OneTime, id)
            until = now + 1 if found is None or found.expires_at is None else found.expires_at
            raise Throttled(max(1, until - now)) from None

    def _id(self, purpose: str, target: str, subject: str) -> str:
        assert purpose in PURPOSES
        return f"otp|{purpose}|{self._auth.vault.digest(f'{target}|{subject}', 'otp target')}"
