"""RFC 6750 and RFC 9068: access tokens, and what is asked of them at each use."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey

from smart_auth.context import Auth
from smart_auth.records import Account, Client, Grant
from smart_auth.sessions import revoke
from smart_auth.store.sqlite import open_store
from smart_auth.tokens import InvalidToken, Tokens
from tests.support.accounts import AuthClock
from tests.support.smart_apps import Hospital, hs256, parts


@pytest.fixture
def hospital(auth: Auth) -> Hospital:
    return Hospital(auth)


@pytest.fixture
def token(hospital: Hospital) -> str:
    """Anna's access token."""
    found: str = hospital.browser("anna").tokens()["access_token"]
    return found


def test_access_token_says_whose_it_is_and_for_whom(hospital: Hospital, token: str) -> None:
    """RFC 9068 section 2.1 and 2.2."""
    header, claims = parts(token)
    assert header["typ"] == "at+jwt"
    assert header["alg"] == "ES256"
    now = hospital.auth.clock()
    assert claims["iss"] == "https://example.org"
    assert claims["aud"] == "https://example.org/fhir"
    assert (claims["iat"], claims["exp"]) == (now, now + 3600)
    assert claims["sub"] == "anna"
    assert claims["client_id"] == "public"
    assert claims["patient"] == "anna"
    assert claims["scope"] == "launch/patient openid fhirUser offline_access patient/*.rs"
    assert claims["jti"]


@pytest.mark.both_stores
def test_verified_token_is_the_grant_as_of_now(hospital: Hospital, token: str) -> None:
    verified = hospital.auth.tokens.verify(token)
    assert verified.grant.role == "patient"
    assert verified.grant.fhir_user == "Patient/anna"
    assert verified.grant.person == "Person/anna"
    assert "patient/*.rs" in verified.scopes
    assert verified.expires_at == hospital.auth.clock() + 3600


def test_token_expires_after_an_hour(hospital: Hospital, token: str, clock: AuthClock) -> None:
    clock.advance(3599)
    hospital.auth.tokens.verify(token)
    clock.advance(1)
    with pytest.raises(InvalidToken, match="expired"):
        hospital.auth.tokens.verify(token)


@pytest.mark.both_stores
def test_revocation_works_on_the_very_next_use(hospital: Hospital, token: str) -> None:
    grant = hospital.auth.tokens.verify(token).grant
    revoke(hospital.auth, grant)
    with pytest.raises(InvalidToken, match="revoked"):
        hospital.auth.tokens.verify(token)


def test_token_ends_with_its_account_role_and_client(hospital: Hospital, token: str) -> None:
    store = hospital.auth.store
    account, client = store.get(Account, "anna"), store.get(Client, "public")
    assert account is not None
    assert client is not None
    for changed, message in (
        (Account(id="anna", name="Anna", roles=account.roles, status="locked"), "account"),
        (Account(id="anna", name="Anna", roles=()), "account"),
        (Client(id="public", name="App", type="public", status="disabled"), "client"),
    ):
        store.put(changed)
        with pytest.raises(InvalidToken, match=message):
            hospital.auth.tokens.verify(token)
        store.put(account)
        store.put(client)
    hospital.auth.tokens.verify(token)


def test_what_another_worker_ends_is_refused_on_the_very_next_use(
    hospital: Hospital, token: str, tmp_path: Path, clock: AuthClock
) -> None:
    """A worker remembers what it read of a token; another one has a store, and a memory, of its own."""
    worker = replace(hospital.auth, store=open_store(tmp_path / "hestia.db", clock=clock))
    worker.tokens = Tokens(worker)
    store = hospital.auth.store
    grant = worker.tokens.verify(token).grant
    account, client = store.get(Account, "anna"), store.get(Client, "public")
    assert account is not None
    assert client is not None
    for changed, kept, message in (
        (msgspec.structs.replace(account, status="locked"), account, "account"),
        (msgspec.structs.replace(account, roles=()), account, "account"),
        (msgspec.structs.replace(client, status="disabled"), client, "client"),
        (msgspec.structs.replace(grant, revoked_at=clock()), grant, "revoked"),
        (msgspec.structs.replace(grant, revoked_tokens=(parts(token)[1]["jti"],)), grant, "revoked"),
    ):
        worker.tokens.verify(token)
        store.put(changed)
        with pytest.raises(InvalidToken, match=message):
            worker.tokens.verify(token)
        store.put(kept)
    worker.tokens.verify(token)
    worker.store.close()


def test_tokens_of_others_are_refused(hospital: Hospital, token: str) -> None:
    """RFC 9068 section 4; RFC 8725 section 3.1 (algorithms), 3.9 (audience), 3.11 (typ)."""
    header, claims = parts(token)
    tokens, keys = hospital.auth.tokens, hospital.auth.keys
    own = keys.public(header["kid"], "ES256")
    assert own is not None
    other = ECKey.generate_key("P-256")
    forged = [
        jwt.encode(header, claims, other, ["ES256"]),  # another key
        jwt.encode({**header, "kid": "nobody"}, claims, other, ["ES256"]),
        hs256({"alg": "HS256", "typ": "at+jwt", "kid": header["kid"]}, claims, own.as_pem(private=False)),
        keys.sign(claims, "ES256", "JWT"),  # another type: an id_token or an assertion
        keys.sign(claims, "RS256", "at+jwt"),  # another algorithm
        keys.sign({**claims, "aud": "https://other.example/fhir"}, "ES256", "at+jwt"),
        keys.sign({**claims, "iss": "https://other.example"}, "ES256", "at+jwt"),
        token[:-4] + ("AAAA" if token[-4:] != "AAAA" else "BBBB"),
        token.rpartition(".")[0] + ".",
        "eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0." + token.split(".")[1] + ".",
    ]
    for one in forged:
        with pytest.raises(InvalidToken):
            tokens.verify(one)


@pytest.mark.parametrize(
    "text", ["", "x", "a.b.c", "..", "\u4e2d", "a" * 20_000, "e30.e30.e30", "bnVsbA.bnVsbA.bnVsbA"]
)
def test_what_is_no_token_is_refused(hospital: Hospital, text: str) -> None:
    with pytest.raises(InvalidToken):
        hospital.auth.tokens.verify(text)


def test_operator_can_issue_a_token(hospital: Hospital, clock: AuthClock) -> None:
    store = hospital.auth.store
    account, client, machine = store.get(Account, "wang"), store.get(Client, "public"), store.get(Client, "backend")
    assert client is not None
    assert machine is not None
    token = hospital.auth.tokens.issue_for(account, "doctor", client, "user/*.rs", None)
    verified = hospital.auth.tokens.verify(token)
    assert (verified.grant.fhir_user, verified.scopes) == ("Practitioner/wang", ("user/*.rs",))
    token = hospital.auth.tokens.issue_for(None, "system", machine, "system/*.rs", None)
    assert hospital.auth.tokens.verify(token).grant.role == "system"


def test_last_use_is_kept(hospital: Hospital, token: str, clock: AuthClock) -> None:
    clock.advance(600)
    hospital.auth.tokens.verify(token)
    (grant,) = hospital.auth.store.find(Grant, account="anna")
    assert grant.last_used_at == clock.now


def test_userinfo_asks_for_a_token_with_openid(hospital: Hospital) -> None:
    """RFC 6750 section 3 and 3.1."""
    http = hospital.app.test_client()
    bare = http.get("/oauth/userinfo")
    assert (bare.status_code, bare.headers["WWW-Authenticate"].split()[0]) == (401, "Bearer")
    wrong = http.get("/oauth/userinfo", headers={"Authorization": "Bearer x"})
    assert (wrong.status_code, wrong.get_json()["error"]) == (401, "invalid_token")
    token = hospital.browser("anna").tokens(scope="patient/*.rs")["access_token"]
    poor = http.get("/oauth/userinfo", headers={"Authorization": f"Bearer {token}"})
    assert (poor.status_code, poor.get_json()["error"]) == (403, "insufficient_scope")
    # Section 2.3: a token in the query is not taken.
    assert http.get(f"/oauth/userinfo?access_token={token}").status_code == 401
