"""What a browser has got through of a login that is not finished: kept on the server, under a cookie that is signed.

A step gives no rights; it ends after ten minutes, or when it was taken.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from typing import Final

from flask import session

from smart_auth.context import Auth
from smart_auth.records import Account, OneTime

LIFETIME_S: Final = 600
_COOKIE_ENTRY: Final = "step"

RENEW: Final = "renew"
"""Who logged in with a password that somebody else gave, and has to choose one."""
SECOND: Final = "second"
"""Who has to prove the second factor."""
ENROL: Final = "enrol"
"""Who has to set up the second factor that the role requires."""


@dataclass(frozen=True, slots=True)
class Step:
    """`account` has shown `amr` and has to do what `what` says, then goes on to `then`."""

    what: str
    account: Account
    amr: tuple[str, ...]
    then: str
    id: str


def begin(auth: Auth, what: str, account: Account, amr: tuple[str, ...], then: str) -> None:
    """Keeps a step, in place of an earlier one of this browser."""
    secret = secrets.token_urlsafe(32)
    now = auth.clock()
    value = {"what": what, "account": account.id, "amr": list(amr), "then": then}
    auth.store.insert(OneTime(id=_id(secret), created_at=now, expires_at=now + LIFETIME_S, value=value))
    session[_COOKIE_ENTRY] = secret


def current(auth: Auth, what: str) -> Step | None:
    """The step of this browser, if it is at this one."""
    secret = session.get(_COOKIE_ENTRY)
    found = auth.store.get(OneTime, _id(secret)) if isinstance(secret, str) else None
    if found is None or found.value["what"] != what:
        return None
    account = auth.accounts.get(found.value["account"])
    if account is None or account.status != "active":
        return None
    return Step(what, account, tuple(found.value["amr"]), found.value["then"], found.id)


def finish(auth: Auth, step: Step) -> bool:
    """Ends a step; whether it was there to be ended. Of two browsers with one cookie, one goes on."""
    session.pop(_COOKIE_ENTRY, None)
    return auth.store.take(OneTime, step.id) is not None


def _id(secret: str) -> str:
    return "step|" + hashlib.sha256(secret.encode()).hexdigest()
