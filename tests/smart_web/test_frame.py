"""What holds for every page: headers, forms that nobody else can send, languages, and no code inside of pages."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape
from pathlib import Path

import pytest
from flask import Flask

from smart_auth import web
from smart_auth.context import Auth, AuthSettings
from smart_auth.records import Account, Client
from smart_auth.web.shell import PAGES
from tests.smart_web.conftest import BASE, PASSWORD, Browser

TEMPLATES = sorted((Path(web.__file__).parent / "templates").glob("*.html"))
EVERYWHERE = {
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
}


def paths(app: Flask, account: Account) -> list[str]:
    """A path of every rule that answers GET."""
    found = []
    values = {
        "id": account.id,
        "role": "doctor",
        "act": "lock",
        "filename": "hospital.css",
        "secret": "x",
        "client_id": "x",
    }
    for rule in app.url_map.iter_rules():
        if "GET" in (rule.methods or ()):
            found.append(re.sub(r"<(?:[^:<>]+:)?(\w+)>", lambda name: values[name[1]], rule.rule))
    return sorted(set(found))


@pytest.mark.parametrize("who", ["", "chen", "admin-peng"])
def test_every_answer_has_the_headers_and_no_5xx(
    app: Flask, browser: Browser, who: str, patient: Account, administrator: Account
) -> None:
    if who:
        browser.log_in(who)
    checked = 0
    for path in [*paths(app, patient), "/account/nothing", "/admin/nothing"]:
        answer = browser.raw(path)
        assert answer.status_code < 500, path
        for name, value in EVERYWHERE.items():
            assert answer.headers.get(name) == value, (path, name)
        if path.startswith("/account/static/"):
            continue
        if not path.startswith(("/oauth/jwks", "/.well-known", "/fhir/.well-known", "/oauth/style")):
            assert "no-store" in answer.headers["Cache-Control"], path
        if answer.mimetype == "text/html":
            policy = answer.headers["Content-Security-Policy"]
            assert "'unsafe-inline'" not in policy
            assert policy.startswith("default-src 'none'; style-src 'self'; img-src 'self' data:; script-src 'self'")
            assert "frame-ancestors 'none'" in policy
            assert "base-uri 'none'" in policy
            checked += 1
    assert checked > 20


def test_pages_answer_those_whom_they_are_for(
    app: Flask, new_browser: Callable[[], Browser], patient: Account, administrator: Account
) -> None:
    """Own pages for everybody who is logged in, /admin for administrators, and the login for the others."""
    anybody, person, administrating = new_browser(), new_browser(), new_browser()
    person.log_in("chen")
    administrating.log_in("admin-peng")
    for rule in app.url_map.iter_rules():
        if (
            rule.arguments
            or "GET" not in (rule.methods or ())
            or rule.endpoint.split(".")[0] not in ("account", "admin")
        ):
            continue
        assert "/login" in anybody.raw(rule.rule).headers["Location"], rule.rule
        seen = person.raw(rule.rule).status_code
        assert seen == 403 if rule.endpoint.startswith("admin.") else seen in (200, 303), rule.rule
        assert administrating.raw(rule.rule).status_code in (200, 303), rule.rule


def test_every_form_needs_its_token(app: Flask, browser: Browser, administrator: Account) -> None:
    browser.log_in("admin-peng")
    tried = 0
    for rule in app.url_map.iter_rules():
        if "POST" not in (rule.methods or ()) or rule.endpoint.split(".")[0] not in PAGES:
            continue
        act = "approve" if "/clients/" in rule.rule else "lock"
        values = {"id": administrator.id, "role": "doctor", "act": act}
        path = re.sub(r"<(?:[^:<>]+:)?(\w+)>", lambda name, values=values: values[name[1]], rule.rule)
        for token in ({}, {"csrf_token": "made up"}):
            answer = browser.client.post(path, base_url=BASE, data=token, headers={"Accept-Language": "en"})
            assert answer.status_code == 400, path
            assert "This form was open for too long" in answer.text
            tried += 1
    assert tried > 40


def test_token_of_another_browser_does_not_do(new_browser: Callable[[], Browser], patient: Account) -> None:
    theirs, ours = new_browser(), new_browser()
    theirs.get("/login")
    ours.get("/login")
    token = theirs.hidden("/login")["csrf_token"]
    answer = ours.send("/login", name="chen", password=PASSWORD, csrf_token=token)
    assert answer.status_code == 400


def test_forms_get_a_new_secret_at_login(browser: Browser, patient: Account) -> None:
    browser.get("/login")
    token = browser.hidden("/login")["csrf_token"]
    browser.send("/login", name="chen", password=PASSWORD)
    assert browser.send("/logout", csrf_token=token).status_code == 400


class TestWithoutTls:
    @pytest.fixture
    def auth_settings(self) -> AuthSettings:
        return AuthSettings(issuer="http://127.0.0.1:8080", base_url="http://127.0.0.1:8080/fhir")

    def test_no_hsts_and_cookies_that_a_browser_keeps(self, app: Flask) -> None:
        answer = app.test_client().get("/login")
        assert "Strict-Transport-Security" not in answer.headers
        assert all("Secure" not in one and "__Host-" not in one for one in answer.headers.getlist("Set-Cookie"))


class TestInProduction:
    @pytest.fixture
    def auth_settings(self) -> AuthSettings:
        return AuthSettings(issuer=BASE, base_url=f"{BASE}/fhir", production=True)

    def test_there_is_no_outbox_and_no_demo(self, browser: Browser, demo: Account) -> None:
        for path in ("/outbox", "/start", "/start/launch"):
            assert browser.raw(path).status_code == 404
        assert "/outbox" not in browser.get("/login").text
        assert "/start" not in browser.get("/login").text


def test_login_for_an_app_may_end_with_a_redirect_to_it(
    app: Flask, auth: Auth, browser: Browser, patient: Account
) -> None:
    """Browsers apply form-action to redirects too: CSP 3 section 6.4.2."""
    auth.store.put(
        Client(id="app", name="App", type="public", redirect_uris=("https://app.example/cb",), scope="openid")
    )
    query = {
        "response_type": "code",
        "client_id": "app",
        "redirect_uri": "https://app.example/cb",
        "scope": "openid",
        "state": "s",
        "aud": f"{BASE}/fhir",
        "code_challenge": "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
        "code_challenge_method": "S256",
    }
    answer = browser.client.get("/oauth/authorize", query_string=query, base_url=BASE)
    page = browser.get(answer.headers["Location"])
    assert browser.path == "/login"
    assert "form-action 'self' https://app.example;" in page.headers["Content-Security-Policy"]
    page = browser.send("/login", name="chen", password=PASSWORD)
    assert browser.path.startswith("/oauth/request/")
    assert browser.says("Allow “App” to use this health data?")
    assert "form-action 'self' https://app.example;" in page.headers["Content-Security-Policy"]
    again = re.findall(r'href="(/login\?[^"]*again=1[^"]*)"', page.text)
    assert browser.get(unescape(again[0])).status_code == 200
    assert browser.path == "/login"
    browser.send("/login", name="chen", password=PASSWORD)
    assert browser.path.startswith("/oauth/request/")
    plain = browser.raw("/account").headers["Content-Security-Policy"]
    assert "form-action 'self';" in plain


# --- languages --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "expected"),
    [("", "登录"), ("fr", "登录"), ("en-GB,en;q=0.9", "Log in"), ("zh-CN,zh;q=0.9,en;q=0.8", "登录"), ("zh-TW", "登录"),
     ("en;q=0.5, zh;q=0.9", "登录")],
)  # fmt: skip
def test_browser_says_which_language(app: Flask, header: str, expected: str) -> None:
    headers = {"Accept-Language": header} if header else {}
    assert f"<h1>{expected}</h1>" in app.test_client().get("/login", headers=headers).text


def test_language_of_the_header_is_remembered(browser: Browser) -> None:
    browser.get("/login?next=/account/apps")
    browser.send("/language", language="zh")
    assert browser.path == "/login"
    assert browser.page is not None
    assert browser.page.request.args["next"] == "/account/apps"
    assert '<html lang="zh-Hans">' in browser.page.text
    browser.send("/language", language="xx")
    assert '<html lang="zh-Hans">' in browser.get("/register").text


def test_language_is_kept_with_the_account(browser: Browser, auth: Auth, patient: Account) -> None:
    browser.log_in("chen")
    browser.send("/language", language="zh")
    kept = auth.accounts.get(patient.id)
    assert kept is not None
    assert kept.locale == "zh"


def test_app_may_ask_for_a_language(app: Flask) -> None:
    """OpenID Connect Core section 3.1.2.1, ui_locales."""
    assert "<h1>Log in</h1>" in app.test_client().get("/login?ui_locales=fr-CA+en").text


def test_language_leads_nowhere_else(browser: Browser) -> None:
    browser.get("/login")
    answer = browser.send("/language", follow=False, language="en", next="//evil.example")
    assert answer.headers["Location"] == "/login"


# --- templates --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_templates_have_no_inline_code_and_no_foreign_address(template: Path) -> None:
    text = template.read_text(encoding="utf-8")
    assert not re.search(r"<script|<style|\sstyle=|\son[a-z]+=|javascript:|\|\s*safe\b|https?://", text)


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_every_form_that_is_sent_by_post_has_a_token(template: Path) -> None:
    for form in re.findall(r'<form method="post".*?</form>', template.read_text(encoding="utf-8"), re.DOTALL):
        assert re.search(r"hidden\(form\)|token\(\)|csrf_token\(\)", form), form[:200]


def test_titles_and_addresses_name_no_person(
    app: Flask, browser: Browser, patient: Account, administrator: Account
) -> None:
    browser.log_in("admin-peng")
    for path in paths(app, patient):
        answer = browser.raw(path)
        if answer.mimetype == "text/html":
            title = "".join(re.findall(r"<title>(.*?)</title>", answer.text))
            links = " ".join(re.findall(r'(?:href|action)="([^"]*)"', answer.text))
            for name in ("Chen", "Peng", "138"):
                assert name not in title + links, path


def test_sizes_are_bounded(browser: Browser) -> None:
    browser.get("/login")
    answer = browser.send("/login", name="x", password="y" * 2_000_000)
    assert answer.status_code == 413
