"""Browser sessions: a cookie of 256 random bits, of which the store knows the hash.

A session ends when it is idle, when it is too old, and when somebody ends it; its id is replaced at every step that
gives it more rights (login, second factor, change of role), so that a cookie planted before is worth nothing after.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING, Any, Final

import msgspec

from smart_auth.records import Grant, Session

if TYPE_CHECKING:
    from smart_auth.context import Auth, AuthSettings

COOKIE_BYTES: Final = 32
SEEN_EVERY_S: Final = 60
"""How exactly it is kept when a session was last used; each use would be a write otherwise."""
USER_AGENT_LENGTH: Final = 200


def cookie_name(settings: AuthSettings) -> str:
    """``__Host-`` binds the cookie to this host and to TLS (RFC 6265bis section 4.1.3.2)."""
    return "__Host-hestia" if settings.secure else "hestia"


def cookie_attributes(settings: AuthSettings) -> dict[str, Any]:
    """Arguments of Response.set_cookie beside name and value. It ends with the browser's session."""
    return {"httponly": True, "secure": settings.secure, "samesite": "Lax", "path": "/"}


def session_id(cookie: str) -> str:
    """The id of the session of a cookie value."""
    return hashlib.sha256(cookie.encode()).hexdigest()


class Sessions:
    """Starts, finds and ends sessions."""

    def __init__(self, auth: Auth) -> None:
        self._auth = auth

    def start(
        self,
        account: str,
        amr: tuple[str, ...],
        *,
        role: str | None = None,
        address: str = "",
        user_agent: str = "",
        replaces: Session | None = None,
    ) -> tuple[str, Session]:
        """A new session at a login: (cookie value, session). `replaces` is the one of the same browser, which ends."""
        if replaces is not None:
            self.end(replaces.id)
        now = self._auth.clock()
        cookie = secrets.token_urlsafe(COOKIE_BYTES)
        session = Session(
            id=session_id(cookie),
            account=account,
            role=role,
            auth_time=now,
            amr=amr,
            created_at=now,
            last_seen_at=now,
            expires_at=now + self._auth.settings.session_lifetime_s,
            address=address,
            user_agent=user_agent[:USER_AGENT_LENGTH],
        )
        self._auth.store.insert(session)
        return cookie, session

    def rotate(self, session: Session, **changes: Any) -> tuple[str, Session] | None:
        """The same session with a new id and these fields changed: (cookie value, session); None when it has ended
        meanwhile. Grants of online access go along. It does not live longer for it.
        """
        taken = self._auth.store.take(Session, session.id)
        if taken is None:
            return None
        cookie = secrets.token_urlsafe(COOKIE_BYTES)
        changes = {"last_seen_at": self._auth.clock(), **changes}
        rotated: Session = msgspec.structs.replace(taken, id=session_id(cookie), **changes)
        self._auth.store.insert(rotated)
        for grant in self._auth.store.find(Grant, session=session.id):
            self._auth.store.change(Grant, grant.id, lambda one: msgspec.structs.replace(one, session=rotated.id))
        return cookie, rotated

    def load(self, cookie: str | None) -> Session | None:
        """The session of a cookie value, or None when there is none, or it is idle or too old."""
        if not cookie or len(cookie) > 100:
            return None
        found = self._auth.store.get(Session, session_id(cookie))
        if found is None:
            return None
        now = self._auth.clock()
        if now - found.last_seen_at >= self._auth.settings.session_idle_s:
            self.end(found.id)
            return None
        if now - found.last_seen_at >= SEEN_EVERY_S:
            return self._auth.store.change(
                Session, found.id, lambda one: msgspec.structs.replace(one, last_seen_at=now)
            )
        return found

    def alive(self, id: str) -> bool:
        """Whether a session has neither ended nor been idle for too long: online access lasts as long."""
        found = self._auth.store.get(Session, id)
        return found is not None and self._auth.clock() - found.last_seen_at < self._auth.settings.session_idle_s

    def list(self, account: str) -> list[Session]:
        """The sessions of an account that are alive, oldest first."""
        oldest = self._auth.clock() - self._auth.settings.session_idle_s
        return [one for one in self._auth.store.find(Session, account=account) if one.last_seen_at > oldest]

    def end(self, id: str) -> bool:
        """Ends a session and the online access that was granted in it; whether there was one."""
        ended = self._auth.store.delete(Session, id)
        for grant in self._auth.store.find(Grant, session=id):
            revoke(self._auth, grant)
        return ended

    def end_all(self, account: str, *, role: str | None = None, keep: str | None = None) -> int:
        """Ends the sessions of an account, of one role if given, but for `keep`; returns how many."""
        ended = 0
        for session in self._auth.store.find(Session, account=account):
            if session.id != keep and role in (None, session.role):
                ended += self.end(session.id)
        return ended


def revoke(auth: Auth, grant: Grant) -> bool:
    """Revokes a grant, and so every token of it; whether it was not revoked before."""
    now = auth.clock()

    def change(found: Grant) -> Grant | None:
        return None if found.revoked_at is not None else msgspec.structs.replace(found, revoked_at=now)

    return auth.store.change(Grant, grant.id, change) is not None
