"""Administration: accounts, clients, policies, keys; and that nobody else gets there."""

from __future__ import annotations

import json
import re
from typing import Any

import pyotp
import pytest
from flask import Flask
from joserfc.jwk import ECKey

from smart_auth.clients import Clients, Metadata
from smart_auth.context import Auth
from smart_auth.records import Account, Client, Grant, Key
from tests.smart_web.conftest import BASE, PASSWORD, Browser
from tests.support.accounts import AuthClock, RecordingAudit


@pytest.fixture
def boss(browser: Browser, administrator: Account) -> Browser:
    browser.log_in("admin-peng")
    return browser


def test_no_administrative_act_is_open_to_others(
    app: Flask, browser: Browser, auth: Auth, doctor: Account, administrator: Account
) -> None:
    Clients(auth).create(Metadata("App", "public", ("https://app.example/cb",)), client_id="app", status="pending")
    browser.log_in("doctor-he")
    browser.get("/account/security")
    token = browser.hidden("/logout")["csrf_token"]
    tried = 0
    for rule in app.url_map.iter_rules():
        if rule.endpoint.split(".")[0] != "admin":
            continue
        client = "/clients/" in rule.rule
        values = {"id": "app" if client else administrator.id, "role": "doctor", "act": "approve" if client else "lock"}
        path = re.sub(r"<(?:[^:<>]+:)?(\w+)>", lambda name, values=values: values[name[1]], rule.rule)
        for method in ("GET", "POST"):
            if method in (rule.methods or ()):
                answer = browser.client.open(path, method=method, base_url=BASE, data={"csrf_token": token})
                assert answer.status_code == 403, (method, path)
                tried += 1
    assert tried > 20
    assert auth.store.get(Client, "app").status == "pending"  # type: ignore[union-attr]


def test_acts_need_a_recent_login(boss: Browser, auth: Auth, doctor: Account, clock: AuthClock) -> None:
    boss.get(f"/admin/accounts/{doctor.id}")
    clock.advance(901)
    boss.send(f"/admin/accounts/{doctor.id}/lock")
    assert boss.path == "/login/again"
    assert auth.accounts.get(doctor.id).status == "active"  # type: ignore[union-attr]
    boss.send("/login/again", password=PASSWORD)
    assert boss.path == "/admin/accounts"


def test_accounts_are_found_by_name_and_by_phone(boss: Browser, patient: Account, doctor: Account) -> None:
    boss.get("/admin/accounts")
    for text, found in (("wenjing", "He Wenjing"), ("138 0013 8000", "Chen Guoqiang"), ("DOCTOR-", "He Wenjing")):
        page = boss.send("/admin/accounts", text=text)
        assert re.findall(r'<th scope="row"><a [^>]*>([^<]*)', page.text) == [found]
    boss.send("/admin/accounts", text="nobody at all")
    assert boss.says("Nobody found.")


def test_administrator_sees_no_whole_phone_number(boss: Browser, patient: Account) -> None:
    page = boss.get(f"/admin/accounts/{patient.id}")
    assert "13800138000" not in page.text
    assert boss.says("+86****8000")


def test_account_for_staff_gets_a_password_that_works_once(boss: Browser, auth: Auth, audit: RecordingAudit) -> None:
    boss.get("/admin/accounts/new")
    values = {"name": "Xu Lan", "username": "nurse-xu", "role": "nurse"}
    boss.send("/admin/accounts/new", fhir_user="Practitioner/none", **values)
    assert boss.says("There is no such person in the records.")
    assert auth.accounts.by_login("nurse-xu") is None
    page = boss.send("/admin/accounts/new", fhir_user="Practitioner/s1", **values)
    password = re.findall(r"<code>([a-z0-9]{5}(?:-[a-z0-9]{5}){3})</code>", page.text)[0]
    account = auth.accounts.by_login("nurse-xu")
    assert account is not None
    assert [(link.role, link.fhir_user) for link in account.roles] == [("nurse", "Practitioner/s1")]
    boss.get("/account")
    boss.send("/logout")
    boss.send("/login", name="nurse-xu", password=password)
    assert boss.path == "/login/password"
    assert "role-grant" in audit.actions()


def test_roles_are_given_and_taken_away(boss: Browser, auth: Auth, doctor: Account) -> None:
    page = f"/admin/accounts/{doctor.id}"
    boss.get(page)
    boss.send(f"{page}/role", role="pharmacist", fhir_user="Practitioner/s1")
    assert [link.role for link in auth.accounts.get(doctor.id).roles] == ["doctor", "pharmacist"]  # type: ignore[union-attr]
    boss.send(f"{page}/role", role="nurse", fhir_user="Practitioner/none")
    assert boss.says("There is no such person in the records.")
    boss.send(f"{page}/role/remove", role="doctor")
    assert [link.role for link in auth.accounts.get(doctor.id).roles] == ["pharmacist"]  # type: ignore[union-attr]


def test_last_administrator_stays(boss: Browser, auth: Auth, administrator: Account) -> None:
    page = f"/admin/accounts/{administrator.id}"
    boss.get(page)
    for path, values in (
        (f"{page}/role/remove", {"role": "administrator"}),
        (f"{page}/lock", {}),
        (f"{page}/close", {}),
    ):
        boss.send(path, **values)
        assert boss.says("The last administrator has to stay.")
    assert auth.accounts.get(administrator.id) == administrator


def test_accounts_are_locked_opened_and_closed(boss: Browser, auth: Auth, doctor: Account) -> None:
    page = f"/admin/accounts/{doctor.id}"
    boss.get(page)
    for act, status in (("lock", "locked"), ("unlock", "active"), ("close", "closed")):
        boss.send(f"{page}/{act}")
        assert auth.accounts.get(doctor.id).status == status  # type: ignore[union-attr]
    assert boss.says("closed")
    boss.client.post(f"{page}/unlock", base_url=BASE, data=boss.hidden("/logout"))
    assert auth.accounts.get(doctor.id).status == "closed"  # type: ignore[union-attr]


def test_lost_second_factor_is_removed(boss: Browser, auth: Auth, doctor: Account, clock: AuthClock) -> None:
    secret, _uri = auth.accounts.second_factor.enrol(doctor.id)
    auth.accounts.second_factor.confirm(doctor.id, pyotp.TOTP(secret).at(clock()))
    boss.get(f"/admin/accounts/{doctor.id}")
    boss.send(f"/admin/accounts/{doctor.id}/second-factor")
    assert auth.accounts.get(doctor.id).totp_secret is None  # type: ignore[union-attr]


# --- clients ----------------------------------------------------------------------------------------------------------


def test_app_that_registered_itself_is_approved_or_rejected(boss: Browser, auth: Auth, audit: RecordingAudit) -> None:
    clients = Clients(auth)
    for id in ("one", "two"):
        clients.create(Metadata(f"App {id}", "public", ("https://app.example/cb",)), client_id=id, status="pending")
    boss.get("/admin")
    assert boss.says("2 apps wait for approval.")
    boss.get("/admin/clients/one")
    assert boss.says("See the whole health record")
    boss.send("/admin/clients/one/approve")
    assert clients.active("one") is not None
    boss.get("/admin/clients/two")
    boss.send("/admin/clients/two/reject")
    assert clients.get("two") is None
    assert "client-approve" in audit.actions()


def test_app_with_a_secret_is_registered_and_the_secret_shown_once(boss: Browser, auth: Auth) -> None:
    boss.get("/admin/clients/new")
    page = boss.send(
        "/admin/clients/new",
        name="Diary",
        type="confidential-symmetric",
        redirect_uris="https://a.example/cb\nhttps://b.example/cb",
        scope="openid patient/*.rs",
    )
    assert boss.says("The secret of this app. It is shown only now.")
    secret = re.findall(r"<code>([\w-]{43})</code>", page.text)[0]
    client = auth.store.page(Client)[0]
    assert client.redirect_uris == ("https://a.example/cb", "https://b.example/cb")
    assert secret not in boss.get(f"/admin/clients/{client.id}").text
    page = boss.send(f"/admin/clients/{client.id}/secret")
    assert re.findall(r"<code>([\w-]{43})</code>", page.text)[0] != secret


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"redirect_uris": "http://app.example/cb"}, "A redirect address is https"),
        ({"redirect_uris": ""}, "An app has 1 to 30 redirect addresses."),
        ({"scope": "everything please"}, "None of these scopes is one that this kind of app may have."),
        ({"type": "backend", "scope": "system/*.rs"}, "Give either the public keys or their address."),
        ({"type": "backend", "scope": "system/*.rs", "jwks": "{"}, "These keys are not JSON."),
        ({"type": "backend", "scope": "system/*.rs", "jwks": "[]"}, "These keys are not JSON."),
        (
            {"type": "backend", "scope": "system/*.rs", "jwks_uri": "http://10.0.0.1/k"},
            "Public keys are fetched by https",
        ),
        ({"launch_uri": "javascript:alert(1)"}, "This is not an address of a web page"),
        ({"type": "nonsense"}, "Not a valid choice"),
    ],
)
def test_what_is_wrong_with_a_registration_is_said(
    boss: Browser, auth: Auth, values: dict[str, str], text: str
) -> None:
    form = {"name": "App", "type": "public", "redirect_uris": "https://a.example/cb", "scope": "openid", **values}
    boss.get("/admin/clients/new")
    assert boss.send("/admin/clients/new", **form).status_code == 400
    assert boss.says(text)
    assert auth.store.page(Client) == []


def test_app_is_changed_and_disabled(boss: Browser, auth: Auth) -> None:
    key = ECKey.generate_key("P-384", {"kid": "k1", "alg": "ES384", "use": "sig"}).as_dict(private=False)
    metadata = Metadata("App", "backend", scope="system/*.rs", jwks={"keys": [key]}, contacts=("a@example.com",))
    Clients(auth).create(metadata, client_id="app")
    auth.store.put(Grant(id="g", client="app", role="system", scope="system/*.rs"))
    page = boss.get("/admin/clients/app")
    assert "k1" in page.text
    boss.send("/admin/clients/app", name="Other", scope="system/Patient.rs", jwks=json.dumps({"keys": [key]}))
    assert boss.says("Saved.")
    changed = auth.store.get(Client, "app")
    assert changed is not None
    assert (changed.name, changed.scope, changed.type, changed.contacts) == (
        "Other", "system/Patient.rs", "backend", ("a@example.com",)
    )  # fmt: skip
    boss.send("/admin/clients/app/disable")
    assert auth.store.get(Client, "app").status == "disabled"  # type: ignore[union-attr]
    assert auth.store.get(Grant, "g").revoked_at is not None  # type: ignore[union-attr]
    boss.send("/admin/clients/app/approve")
    assert auth.store.get(Client, "app").status == "active"  # type: ignore[union-attr]


def test_hostile_registration_does_no_harm_on_the_page(boss: Browser, auth: Auth) -> None:
    evil = '"><script>alert(1)</script>'
    auth.store.put(
        Client(
            id="evil",
            name=evil,
            type="public",
            redirect_uris=(evil,),
            client_uri="javascript:alert(1)",
            contacts=(evil,),
        )
    )
    page = boss.get("/admin/clients/evil")
    assert "<script>alert" not in page.text
    assert 'href="javascript' not in page.text
    assert "<script>alert" not in boss.get("/admin/clients").text


# --- policies and keys ------------------------------------------------------------------------------------------------


class Policies:
    """Rules of one role in memory, as `Auth.policies` offers them."""

    def __init__(self) -> None:
        self.saved: list[dict[str, Any]] = []

    def roles(self) -> list[str]:
        return ["doctor"]

    def current(self, role: str) -> dict[str, Any]:
        return self.versions(role)[0]

    def versions(self, role: str) -> list[dict[str, Any]]:
        shipped = {"version": 0, "rules_json": '["shipped"]', "author": "Hestia", "at": 0, "note": ""}
        return [*reversed(self.saved), shipped]

    def check(self, role: str, rules_json: str) -> list[str]:
        return [] if rules_json.startswith("[") else ["Not a list of rules."]

    def save(self, role: str, rules_json: str, author: str, note: str) -> list[str]:
        found = self.check(role, rules_json)
        if not found:
            version = len(self.saved) + 1
            self.saved.append({"version": version, "rules_json": rules_json, "author": author, "at": 9, "note": note})
        return found


def test_policy_is_checked_saved_and_restored(boss: Browser, auth: Auth, audit: RecordingAudit) -> None:
    auth.policies = policies = Policies()
    boss.get("/admin/policies")
    assert boss.says("Doctor")
    boss.get("/admin/policies/doctor")
    assert boss.says('["shipped"]')
    assert boss.send("/admin/policies/doctor", rules="{}", note="").status_code == 400
    assert boss.says("Not a list of rules.")
    boss.send("/admin/policies/doctor", rules='["new"]', note="", check="1")
    assert boss.says("These rules are fine. They are not saved yet.")
    assert policies.saved == []
    boss.send("/admin/policies/doctor", rules='["new"]', note="because")
    assert policies.saved[0]["author"] == "Peng Cheng"
    boss.get("/admin/policies/doctor?version=0")
    assert boss.says('["shipped"]')
    boss.send("/admin/policies/doctor", rules='["shipped"]', note="Version 0 again")
    assert [one["rules_json"] for one in policies.saved] == ['["new"]', '["shipped"]']
    assert audit.actions().count("policy-change") == 2
    assert boss.get("/admin/policies/stranger").status_code == 404


def test_server_without_policies_says_so(boss: Browser) -> None:
    boss.get("/admin/policies")
    assert boss.says("This server has no role policies to edit.")
    assert boss.get("/admin/policies/doctor").status_code == 404


def test_keys_are_changed_at_once(boss: Browser, auth: Auth) -> None:
    before = {key["kid"] for key in auth.keys.jwks()["keys"]}
    boss.get("/admin/keys")
    boss.send("/admin/keys/rotate")
    active = {one.public["kid"] for one in auth.store.find(Key, status="active")}
    assert active.isdisjoint(before)
    assert before <= {key["kid"] for key in auth.keys.jwks()["keys"]}
