"""Authorization requests that wait for a person: to log in, to choose a patient, to consent.

The request is kept here and the browser goes on at ``/oauth/request/<secret>``, so that no parameter of it is in an
address that a login page, a history or a log sees.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from smart_auth.context import Auth
from smart_auth.records import Launch, OneTime
from smart_auth.tokens import digest

PATH: Final = "/oauth/request/"
LIFETIME_S: Final = 1800
"""Time enough to register, to look for a phone, and to read."""


@dataclass(frozen=True, slots=True)
class Pending:
    """A request that waits. `params` are its parameters as checked, `launch` the EHR launch that it took.

    `progress` is what one person (`account`, `role`) did so far: `patient` chosen, `offered` to choose from, and the
    `visit` (an Encounter id) chosen `of` a patient.
    """

    secret: str
    params: dict[str, str]
    launch: Launch | None
    created_at: int
    stale: str | None
    """Id of the session that `prompt=login` found: another one has to follow it."""
    progress: dict[str, Any]

    @property
    def path(self) -> str:
        return PATH + self.secret


def begin(auth: Auth, params: Mapping[str, str], launch: Launch | None, stale: str | None = None) -> Pending:
    """Keeps a request that was checked."""
    secret, now = secrets.token_urlsafe(24), auth.clock()
    value = {
        "params": dict(params),
        "launch": msgspec.to_builtins(launch) if launch is not None else None,
        "stale": stale,
        "progress": {},
    }
    auth.store.insert(OneTime(id=_id(secret), value=value, created_at=now, expires_at=now + LIFETIME_S))
    return _read(secret, value, now)


def load(auth: Auth, secret: str) -> Pending | None:
    """The request that waits under a secret; None when it was finished or is too old."""
    found = auth.store.get(OneTime, _id(secret))
    return None if found is None else _read(secret, found.value, found.created_at)


def keep(auth: Auth, pending: Pending, **progress: Any) -> Pending | None:
    """Keeps what the person did; None when the request was finished meanwhile."""

    def change(found: OneTime) -> OneTime:
        return msgspec.structs.replace(found, value={**found.value, "progress": progress})

    found = auth.store.change(OneTime, _id(pending.secret), change)
    return None if found is None else _read(pending.secret, found.value, found.created_at)


def finish(auth: Auth, pending: Pending) -> bool:
    """Ends a request; of two answers to it one gets True."""
    return auth.store.take(OneTime, _id(pending.secret)) is not None


def redirect_uri_of(auth: Auth, path: str | None) -> str | None:
    """Where the request at one of our paths will send the browser; None for any other path."""
    if path is None or not path.startswith(PATH):
        return None
    found = load(auth, path.removeprefix(PATH))
    return None if found is None else found.params["redirect_uri"]


def _id(secret: str) -> str:
    return f"authorize|{digest(secret)}"


def _read(secret: str, value: dict[str, Any], created_at: int) -> Pending:
    launch = msgspec.convert(value["launch"], Launch) if value["launch"] is not None else None
    return Pending(secret, value["params"], launch, created_at, value["stale"], value["progress"])
