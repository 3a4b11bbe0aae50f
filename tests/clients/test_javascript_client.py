"""SMART's JavaScript client (fhirclient on npm) in a page in Chromium: both launches, renewal, a search."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, sync_playwright

from tests.clients.conftest import Demo
from tests.support import npm
from tests.support.chromium import executable

SHA512 = "CirZixcwWelbkIXxpxlNQx5+ZdJirl6F1s4y4yvA1X7hHAkr9n99aVHaMi0wX+97nATjKQ65X6NB5as/wZoJzg=="

HEAD = '<!doctype html><html lang="en"><meta charset="utf-8"><title>app</title><script src="/fhir-client.js"></script>'
LAUNCH = HEAD + "<script>const options = %s; FHIR.oauth2.authorize(options);</script>"
INDEX = (
    HEAD
    + """<pre id="said"></pre><script>
FHIR.oauth2.ready().then(async client => {
  window.app = client;
  const found = await client.request(`Observation?patient=${client.patient.id}&_count=3`);
  const patient = await client.patient.read();
  const user = client.getFhirUser ? client.getFhirUser() : client.user.fhirUser;
  document.getElementById("said").textContent = JSON.stringify({
    patient: patient.id, user: user, found: found.entry.map(one => one.resource.subject.reference)});
}).catch(error => { document.getElementById("said").textContent = JSON.stringify({error: String(error)}); });
</script>"""
)


class App:
    """The web server of an app: its two pages and the library."""

    def __init__(self) -> None:
        self.pages: dict[str, bytes] = {
            "/fhir-client.js": (npm.package("fhirclient", "2.6.3", SHA512) / "build" / "fhir-client.js").read_bytes(),
            "/index.html": INDEX.encode(),
        }
        pages = self.pages

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                body = pages.get(path)
                self.send_response(200 if body is not None else 404)
                self.send_header("Content-Type", "text/javascript" if path.endswith(".js") else "text/html")
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.origin = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def set_up(self, **options: Any) -> None:
        """Says what launch.html asks for."""
        self.pages["/launch.html"] = (
            LAUNCH % json.dumps({"redirectUri": f"{self.origin}/index.html", **options})
        ).encode()


@pytest.fixture
def app() -> Iterator[App]:
    made = App()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def client_id(demo: Demo, app: App) -> str:
    """The app, registered dynamically and approved."""
    answer = httpx.post(
        f"{demo.auth}/oauth/register",
        timeout=60,
        json={
            "client_name": "JavaScript app",
            "token_endpoint_auth_method": "none",
            "redirect_uris": [f"{app.origin}/index.html"],
            "initiate_login_uri": f"{app.origin}/launch.html",
            "scope": "launch launch/patient openid fhirUser offline_access patient/*.rs user/*.rs",
        },
    )
    assert answer.status_code == 201, answer.text
    made = str(answer.json()["client_id"])
    demo.hestia("client", "approve", made)
    return made


@pytest.fixture
def page() -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable(), args=["--no-sandbox"])
        context = browser.new_context(locale="zh-CN")
        yield context.new_page()
        browser.close()


def log_in(page: Page, account: dict[str, Any]) -> None:
    page.fill("input[name=name]", account["username"])
    page.fill("input[name=password]", account["password"])
    page.click("main form button[type=submit], main form button:not([name])")


def allow(page: Page) -> None:
    page.click("button[name=decision][value=allow]")


def said(page: Page) -> dict[str, Any]:
    page.wait_for_function("document.getElementById('said')?.textContent.length > 0", timeout=20_000)
    found: dict[str, Any] = json.loads(page.text_content("#said") or "{}")
    assert "error" not in found, found
    return found


@pytest.mark.slow
def test_a_standalone_launch_reads_searches_and_renews_its_token(
    demo: Demo, app: App, client_id: str, page: Page
) -> None:
    me = demo.account("patient")
    scope = "launch/patient openid fhirUser offline_access patient/*.rs"
    app.set_up(clientId=client_id, scope=scope, iss=demo.base, pkceMode="required")
    page.goto(f"{app.origin}/launch.html")
    log_in(page, me)
    allow(page)
    found = said(page)
    assert found["patient"] == me["patient"]
    assert found["found"]
    assert set(found["found"]) == {f"Patient/{me['patient']}"}
    before = page.evaluate("window.app.state.tokenResponse.access_token")
    page.evaluate("window.app.refresh()")
    after = page.evaluate("window.app.state.tokenResponse.access_token")
    assert after not in (None, before)
    name = page.evaluate("window.app.request(`Patient/${window.app.patient.id}`).then(one => one.id)")
    assert name == me["patient"]


@pytest.mark.slow
def test_an_ehr_launch_gets_the_patient_that_the_hospital_chose(
    demo: Demo, app: App, client_id: str, page: Page
) -> None:
    doctor = demo.account("doctor")
    scope = "launch openid fhirUser user/*.rs"
    app.set_up(clientId=client_id, scope=scope, pkceMode="required")
    token = demo.token(doctor["username"])
    headers = {"Authorization": f"Bearer {token}"}
    treated = httpx.get(f"{demo.base}/Patient?_count=1", headers=headers, timeout=60).json()["entry"][0]["resource"][
        "id"
    ]
    asked = {"client_id": client_id, "patient": treated}
    answer = httpx.post(f"{demo.auth}/oauth/launch", headers=headers, json=asked, timeout=60)
    assert answer.status_code in (200, 201), answer.text
    launch = answer.json()["launch"]
    page.goto(f"{app.origin}/launch.html?iss={demo.base}&launch={launch}")
    log_in(page, doctor)
    allow(page)
    found = said(page)
    assert found["patient"] == treated
    assert set(found["found"]) <= {f"Patient/{treated}"}
