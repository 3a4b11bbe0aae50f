"""OpenID Connect Core 1.0, and "Scopes for requesting identity data" of SMART App Launch 2.2."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from smart_auth.context import Auth
from smart_auth.keys import Keys
from smart_auth.records import Key, Session
from tests.support.accounts import AuthClock
from tests.support.smart_apps import Hospital, answered, parts

OPENID = "openid fhirUser profile patient/*.rs"


@pytest.fixture
def hospital(auth: Auth) -> Hospital:
    return Hospital(auth)


def verified(hospital: Hospital, id_token: str) -> dict[str, Any]:
    """The claims, verified with the published keys, as a client does. Section 3.1.3.7."""
    keys = KeySet.import_key_set(hospital.app.test_client().get("/oauth/jwks").get_json())
    return jwt.decode(id_token, keys, algorithms=["RS256"]).claims


# --- 2 and 3.1.3.6 the id_token ---------------------------------------------------------------------------------------


@pytest.mark.both_stores
def test_id_token_says_who_logged_in(hospital: Hospital) -> None:
    """2: iss, sub, aud, exp, iat, auth_time, nonce, acr, amr; SMART: fhirUser."""
    tokens = hospital.browser("anna").tokens(scope=OPENID, nonce="n-0S6")
    header, _ = parts(tokens["id_token"])
    assert header["alg"] == "RS256"  # 15.1
    claims = verified(hospital, tokens["id_token"])
    now = hospital.auth.clock()
    assert (claims["iss"], claims["aud"], claims["sub"]) == ("https://example.org", "public", "anna")
    assert (claims["iat"], claims["exp"], claims["auth_time"]) == (now, now + 3600, now)
    assert claims["nonce"] == "n-0S6"
    assert claims["amr"] == ["pwd"]
    assert claims["acr"].endswith("/aal/1")
    assert claims["fhirUser"] == claims["profile"] == "https://example.org/fhir/Patient/anna"
    assert claims["name"] == "Anna"
    half = hashlib.sha256(tokens["access_token"].encode()).digest()[:16]
    assert claims["at_hash"] == base64.urlsafe_b64encode(half).rstrip(b"=").decode()  # 3.1.3.6


def test_two_factors_are_told(hospital: Hospital) -> None:
    tokens = hospital.browser("wang", amr=("pwd", "otp", "mfa")).tokens(scope="openid fhirUser user/*.rs")
    claims = verified(hospital, tokens["id_token"])
    assert claims["amr"] == ["pwd", "otp", "mfa"]
    assert claims["acr"].endswith("/aal/2")
    assert claims["fhirUser"] == "https://example.org/fhir/Practitioner/wang"


def test_id_token_needs_openid(hospital: Hospital) -> None:
    """3.1.2.1: openid has to be asked for."""
    assert "id_token" not in hospital.browser("anna").tokens(scope="patient/*.rs fhirUser")


def test_id_token_has_what_was_granted_only(hospital: Hospital) -> None:
    claims = verified(hospital, hospital.browser("anna").tokens(scope="openid patient/*.rs")["id_token"])
    assert not {"fhirUser", "profile", "name", "nonce"} & set(claims)


def test_id_token_is_no_access_token(hospital: Hospital) -> None:
    """RFC 8725 section 3.11."""
    tokens = hospital.browser("anna").tokens(scope=OPENID)
    with pytest.raises(Exception, match="no access token"):
        hospital.auth.tokens.verify(tokens["id_token"])


def test_fhir_user_follows_the_active_role(hospital: Hospital) -> None:
    """K1: one account, several roles, one at a time."""
    hospital.account("both", ("patient", "Patient/anna"), ("doctor", "Practitioner/wang"), person="Person/anna")
    for role, user in (("patient", "Patient/anna"), ("doctor", "Practitioner/wang")):
        tokens = hospital.browser("both", role).tokens(scope="openid fhirUser user/*.rs")
        assert verified(hospital, tokens["id_token"])["fhirUser"] == f"https://example.org/fhir/{user}"


def test_guardian_is_the_related_person(hospital: Hospital) -> None:
    """K2: who acts for a dependent does so as the RelatedPerson."""
    bo = hospital.browser("bo")
    page = bo.answer(bo.authorize(scope=OPENID), decision="choose", patient="child")
    tokens = bo.exchange(answered(bo.allow(page))["code"]).get_json()
    assert tokens["patient"] == "child"
    assert verified(hospital, tokens["id_token"])["fhirUser"] == "https://example.org/fhir/RelatedPerson/bo-child"


def test_userinfo_says_the_same(hospital: Hospital) -> None:
    """5.3.2: "The sub Claim in the UserInfo Response MUST be verified to exactly match"."""
    tokens = hospital.browser("anna").tokens(scope=OPENID)
    http = hospital.app.test_client()
    for ask in (http.get, http.post):
        body = ask("/oauth/userinfo", headers={"Authorization": f"Bearer {tokens['access_token']}"}).get_json()
        assert body == {
            "sub": "anna", "name": "Anna",
            "fhirUser": "https://example.org/fhir/Patient/anna", "profile": "https://example.org/fhir/Patient/anna",
        }  # fmt: skip


# --- 3.1.2.1 prompt, max_age ------------------------------------------------------------------------------------------


def test_prompt_none_asks_nobody(hospital: Hospital) -> None:
    """3.1.2.6: login_required, consent_required, interaction_required."""
    assert answered(hospital.browser().authorize(prompt="none"))["error"] == "login_required"
    anna = hospital.browser("anna")
    assert answered(anna.authorize(prompt="none"))["error"] == "consent_required"
    anna.allow(anna.authorize(), remember="y")
    assert "code" in answered(anna.authorize(prompt="none"))
    assert answered(hospital.browser("bo").authorize(prompt="none"))["error"] == "interaction_required"


def test_prompt_none_stands_alone(hospital: Hospital) -> None:
    assert answered(hospital.browser("anna").authorize(prompt="none login"))["error"] == "invalid_request"


def test_prompt_login_asks_for_another_login(hospital: Hospital) -> None:
    """3.1.2.1: "SHOULD prompt the End-User for reauthentication"."""
    anna = hospital.browser("anna")
    response = anna.authorize(prompt="login")
    assert response.location.startswith("/login?next=")
    assert response.location.endswith("&again=1")
    assert anna.http.get(anna.at).status_code == 303  # the old session does not do
    anna.log_in("anna")
    assert anna.http.get(anna.at).status_code == 200


@pytest.mark.parametrize("params", [{"prompt": "select_account"}, {"max_age": "0"}, {"max_age": "00"}])
def test_another_login_is_asked_for_right_after_one_too(hospital: Hospital, params: dict[str, str | None]) -> None:
    """3.1.2.1; the clock stands, so the login was this very second."""
    anna = hospital.browser("anna")
    assert anna.authorize(**params).location.endswith("&again=1")
    assert anna.http.get(anna.at).status_code == 303
    anna.log_in("anna")
    assert anna.http.get(anna.at).status_code == 200


def test_prompt_consent_asks_again(hospital: Hospital) -> None:
    anna = hospital.browser("anna")
    anna.allow(anna.authorize(), remember="y")
    assert anna.authorize().status_code == 302
    assert anna.authorize(prompt="consent").status_code == 200


def test_max_age_asks_for_a_recent_login(hospital: Hospital, clock: AuthClock) -> None:
    """3.1.2.1: "MUST attempt to actively re-authenticate"; auth_time tells when."""
    anna = hospital.browser("anna")
    clock.advance(100)
    assert anna.authorize(max_age="100").status_code == 200
    assert answered(anna.authorize(max_age="99", prompt="none"))["error"] == "login_required"
    assert anna.authorize(max_age="99").location.endswith("&again=1")
    anna.log_in("anna")
    assert anna.http.get(anna.at).status_code == 200
    for wrong in ("x", "-1", "\u0661"):
        assert answered(anna.authorize(max_age=wrong))["error"] == "invalid_request"
    assert anna.authorize(max_age="9" * 400).status_code == 200


def test_what_is_not_supported_says_so(hospital: Hospital) -> None:
    """3.1.2.6."""
    anna = hospital.browser("anna")
    assert answered(anna.authorize(request="x.y.z"))["error"] == "request_not_supported"
    assert answered(anna.authorize(request_uri="https://x.example"))["error"] == "request_uri_not_supported"
    assert answered(anna.authorize(registration="{}"))["error"] == "registration_not_supported"


@pytest.mark.parametrize(("ui_locales", "heading"), [("fr-CA en", "Log in"), ("zh-CN en", "登录")])
def test_pages_speak_the_language_that_the_app_asks_for(hospital: Hospital, ui_locales: str, heading: str) -> None:
    """3.1.2.1: "End-User's preferred languages and scripts"; the whole way, unless the person chose another."""
    browser = hospital.browser()
    login = browser.authorize(ui_locales=ui_locales)
    assert f"<h1>{heading}</h1>" in browser.http.get(login.location).get_data(as_text=True)
    browser.http.set_cookie("hestia-language", "en")
    login = browser.authorize(ui_locales="zh")
    assert "<h1>Log in</h1>" in browser.http.get(login.location).get_data(as_text=True)


def test_login_hint_is_in_no_address(hospital: Hospital) -> None:
    """3.1.2.1: a hint only; who it names may be nobody's business on the way."""
    response = hospital.browser().authorize(login_hint="anna@mail.example")
    assert "anna" not in response.location


# --- online access ----------------------------------------------------------------------------------------------------


@pytest.mark.both_stores
def test_online_access_ends_with_the_session(hospital: Hospital) -> None:
    """SMART: online_access "usable for as long as the end-user remains online"."""
    anna = hospital.browser("anna")
    first = anna.tokens(scope="online_access patient/*.rs")
    assert "online_access" in first["scope"].split()
    second = anna.refresh(first["refresh_token"]).get_json()
    (session,) = hospital.auth.store.find(Session, account="anna")
    hospital.auth.accounts.sessions.end(session.id)
    assert anna.refresh(second["refresh_token"]).get_json()["error"] == "invalid_grant"
    with pytest.raises(Exception, match="revoked"):
        hospital.auth.tokens.verify(second["access_token"])


def test_online_access_ends_with_an_idle_session(hospital: Hospital, clock: AuthClock) -> None:
    anna = hospital.browser("anna")
    first = anna.tokens(scope="online_access patient/*.rs")
    clock.advance(hospital.auth.settings.session_idle_s)
    assert anna.refresh(first["refresh_token"]).get_json()["error"] == "invalid_grant"


def test_offline_access_outlives_the_session(hospital: Hospital) -> None:
    """SMART: offline_access "even after the end-user no longer is online"; it wins over online_access."""
    anna = hospital.browser("anna")
    first = anna.tokens(scope="offline_access online_access patient/*.rs")
    assert "online_access" not in first["scope"].split()
    hospital.auth.accounts.sessions.end_all("anna")
    assert anna.refresh(first["refresh_token"]).status_code == 200


# --- 10.1.1 rotation of signing keys ----------------------------------------------------------------------------------


@pytest.mark.both_stores
def test_keys_rotate_and_old_tokens_stay_good(hospital: Hospital, clock: AuthClock) -> None:
    """10.1.1: keys are published before they sign, and for as long as what they signed is good."""
    keys, rotation_s = hospital.auth.keys, hospital.auth.settings.key_rotation_s
    old = keys.sign({"n": 1}, "ES256", "JWT")
    before = {key["kid"] for key in keys.jwks()["keys"]}
    clock.advance(rotation_s - 3600)
    announced = {key["kid"] for key in keys.jwks()["keys"]}
    assert before < announced
    assert parts(keys.sign({}, "ES256", "JWT"))[0]["kid"] in before  # not yet
    clock.advance(86_400)
    kid = parts(keys.sign({}, "ES256", "JWT"))[0]["kid"]
    assert kid in announced - before
    assert keys.public(parts(old)[0]["kid"], "ES256") is not None
    assert parts(old)[0]["kid"] in {key["kid"] for key in keys.jwks()["keys"]}
    clock.advance(3 * 3600)
    assert parts(old)[0]["kid"] not in {key["kid"] for key in keys.jwks()["keys"]}


@pytest.mark.both_stores
def test_several_workers_have_one_key(auth: Auth) -> None:
    auth.keys = Keys(auth)
    workers = [auth.keys, *(Keys(auth) for _ in range(3))]
    kids = {parts(one.sign({}, "ES256", "JWT"))[0]["kid"] for one in workers}
    assert len(kids) == 1
    workers[0].rotate()
    kid = parts(workers[0].sign({}, "ES256", "JWT"))[0]["kid"]
    assert kid not in kids
    assert workers[1].public(kid, "ES256") is not None  # known at once, though it looks only once a minute


def test_private_keys_are_sealed(auth: Auth) -> None:
    Keys(auth).sign({}, "ES256", "JWT")
    (found,) = auth.store.find(Key, status="active")
    assert '"d"' not in found.private
    assert "d" not in found.public
