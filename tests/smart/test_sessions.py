"""Browser sessions: rotation, timeouts, listing, ending; and the online access that ends with them."""

from __future__ import annotations

import pytest

from smart_auth.context import Auth, AuthSettings
from smart_auth.records import Grant, Session
from smart_auth.sessions import cookie_attributes, cookie_name, session_id
from tests.support.accounts import AuthClock


@pytest.mark.both_stores
def test_a_session_is_found_by_its_cookie_which_is_not_stored(auth: Auth) -> None:
    cookie, session = auth.accounts.sessions.start(
        "a", ("pwd", "otp"), role="doctor", address="192.0.2.1", user_agent="x" * 1000
    )
    assert len(cookie) == 43  # 256 bits as base64url
    assert auth.accounts.sessions.load(cookie) == session
    assert (session.account, session.role, session.amr, session.auth_time) == (
        "a",
        "doctor",
        ("pwd", "otp"),
        auth.clock(),
    )
    assert len(session.user_agent) == 200
    assert cookie not in repr(auth.store.page(Session))
    assert auth.store.get(Session, session_id(cookie)) == session


@pytest.mark.parametrize("cookie", [None, "", "x", "é", "x" * 100_000])
def test_another_cookie_finds_nothing(auth: Auth, cookie: str | None) -> None:
    auth.accounts.sessions.start("a", ("pwd",))
    assert auth.accounts.sessions.load(cookie) is None


def test_an_idle_session_ends(auth: Auth, clock: AuthClock) -> None:
    cookie, session = auth.accounts.sessions.start("a", ("pwd",))
    for _ in range(3):
        clock.advance(auth.settings.session_idle_s - 1)
        assert auth.accounts.sessions.load(cookie) is not None
        assert auth.accounts.sessions.alive(session.id)
    clock.advance(auth.settings.session_idle_s)
    assert not auth.accounts.sessions.alive(session.id)
    assert auth.accounts.sessions.list("a") == []
    assert auth.accounts.sessions.load(cookie) is None
    assert auth.store.get(Session, session.id) is None


def test_a_session_in_use_ends_after_its_lifetime(auth: Auth, clock: AuthClock) -> None:
    cookie, _ = auth.accounts.sessions.start("a", ("pwd",))
    for _ in range(auth.settings.session_lifetime_s // 1800 - 1):
        clock.advance(1800)
        assert auth.accounts.sessions.load(cookie) is not None
    rotated = auth.accounts.sessions.load(cookie)
    assert rotated is not None
    changed = auth.accounts.sessions.rotate(rotated)
    assert changed is not None
    clock.advance(1800)
    assert auth.accounts.sessions.load(changed[0]) is None


@pytest.mark.both_stores
def test_rotating_replaces_the_cookie_and_keeps_the_rest(auth: Auth, clock: AuthClock) -> None:
    cookie, session = auth.accounts.sessions.start("a", ("pwd",))
    auth.store.insert(Grant(id="g", client="c", account="a", role="doctor", session=session.id))
    clock.advance(10)
    rotated = auth.accounts.sessions.rotate(session, role="doctor", amr=("pwd", "otp"))
    assert rotated is not None
    other, changed = rotated
    assert other != cookie
    assert auth.accounts.sessions.load(cookie) is None
    assert auth.accounts.sessions.load(other) == changed
    assert (changed.role, changed.amr, changed.auth_time) == ("doctor", ("pwd", "otp"), session.auth_time)
    assert changed.expires_at == session.expires_at
    grant = auth.store.get(Grant, "g")
    assert grant is not None
    assert (grant.session, grant.revoked_at) == (changed.id, None)


def test_a_session_that_has_ended_is_not_rotated(auth: Auth) -> None:
    _, session = auth.accounts.sessions.start("a", ("pwd",))
    auth.accounts.sessions.end(session.id)
    assert auth.accounts.sessions.rotate(session) is None


def test_a_login_ends_the_session_of_the_same_browser(auth: Auth) -> None:
    before, session = auth.accounts.sessions.start("a", ("pwd",))
    after, _ = auth.accounts.sessions.start("b", ("pwd",), replaces=session)
    assert auth.accounts.sessions.load(before) is None
    assert auth.accounts.sessions.load(after) is not None


@pytest.mark.both_stores
def test_sessions_are_listed_and_ended_one_by_one_or_all(auth: Auth, clock: AuthClock) -> None:
    sessions = auth.accounts.sessions
    made = []
    for role in ("doctor", "nurse", "doctor"):
        made.append(sessions.start("a", ("pwd",), role=role)[1])
        clock.advance(1)
    _, foreign = sessions.start("b", ("pwd",))
    assert sessions.list("a") == made
    assert sessions.end(made[0].id)
    assert not sessions.end(made[0].id)
    assert sessions.list("a") == made[1:]
    assert sessions.end_all("a", keep=made[2].id) == 1
    assert sessions.list("a") == made[2:]
    assert sessions.end_all("a", role="nurse") == 0
    assert sessions.end_all("a") == 1
    assert sessions.list("b") == [foreign]


def test_online_access_ends_with_its_session_and_offline_access_stays(auth: Auth) -> None:
    _, session = auth.accounts.sessions.start("a", ("pwd",))
    auth.store.insert(Grant(id="online", client="c", account="a", role="doctor", session=session.id))
    auth.store.insert(Grant(id="offline", client="c", account="a", role="doctor"))
    auth.accounts.sessions.end(session.id)
    online, offline = auth.store.get(Grant, "online"), auth.store.get(Grant, "offline")
    assert online is not None
    assert offline is not None
    assert (online.revoked_at, offline.revoked_at) == (auth.clock(), None)


def test_use_is_kept_to_the_minute(auth: Auth, clock: AuthClock) -> None:
    cookie, session = auth.accounts.sessions.start("a", ("pwd",))
    clock.advance(59)
    assert auth.accounts.sessions.load(cookie) == session
    clock.advance(1)
    found = auth.accounts.sessions.load(cookie)
    assert found is not None
    assert found.last_seen_at == clock.now


def test_the_cookie_is_bound_to_the_host_where_there_is_tls() -> None:
    secure, plain = AuthSettings(issuer="https://example.org"), AuthSettings(issuer="http://127.0.0.1:8080")
    assert cookie_name(secure) == "__Host-hestia"
    assert cookie_name(plain) == "hestia"
    assert cookie_attributes(secure) == {"httponly": True, "secure": True, "samesite": "Lax", "path": "/"}
    assert cookie_attributes(plain)["secure"] is False
