"""The sample app of docs/examples in Chromium, from the page of demo roles: both launches, renewal, revocation."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, Route

from tests.clients.conftest import Demo


def become(page: Page, demo: Demo, role: str) -> str:
    """Logs in with the button of /start; returns the user name."""
    username = str(demo.account(role)["username"])
    page.goto(f"{demo.auth}/start")
    page.locator(f'form:has(input[value="{username}"]) button').click()
    page.wait_for_url("**/start")
    return username


def over_for(token: str) -> Callable[[Route], None]:
    """Answers requests with this token as a server answers when a token's time is over."""

    def answer(route: Route) -> None:
        if route.request.headers["authorization"] == f"Bearer {token}":
            route.fulfill(status=401)
        else:
            route.continue_()

    return answer


def allow(page: Page) -> None:
    """Chooses the first person if there are several, and allows everything."""
    page.wait_for_selector("button[name=decision]")
    if page.locator("input[name=patient]").count():
        page.locator("input[name=patient]").first.check()
        page.click("button[value=choose]")
    page.click("button[value=allow]")
    page.wait_for_selector("#record:visible", timeout=20_000)


@pytest.mark.slow
def test_opened_on_its_own_it_shows_the_record_renews_and_revokes(demo: Demo, page: Page) -> None:
    become(page, demo, "patient")
    page.click("text=打开应用")
    page.click("#connect")
    allow(page)
    assert page.url == f"{demo.auth}/sample-app/index.html"
    assert page.locator("#observations tr").count() > 0
    assert page.inner_text("#name")
    with page.expect_response("**/oauth/token") as renewed:
        page.click("#refresh")
    assert renewed.value.json()["refresh_token"]
    page.click("#language")
    assert page.inner_text("h2 >> nth=0") == "Latest observations"
    page.click("#revoke")
    page.wait_for_selector("#welcome:visible")
    assert page.evaluate("sessionStorage.session") is None


@pytest.mark.slow
def test_two_requests_that_find_the_token_over_renew_it_once_and_a_late_answer_shows_nothing(
    demo: Demo, page: Page
) -> None:
    become(page, demo, "patient")
    page.goto(f"{demo.auth}/sample-app/index.html")
    page.click("#connect")
    allow(page)
    renewals: list[str] = []
    page.on("request", lambda request: renewals.append(request.url) if request.url.endswith("/oauth/token") else None)
    page.route("**/Patient/*", over_for("of-yesterday"))
    page.route("**/Observation?*", over_for("of-yesterday"))
    page.evaluate(
        "sessionStorage.session = JSON.stringify({...JSON.parse(sessionStorage.session), access_token: 'of-yesterday'})"
    )
    page.reload()
    page.wait_for_selector("#record:visible", timeout=20_000)
    assert len(renewals) == 1
    page.unroute_all()
    late: list[Route] = []
    page.route("**/Observation?*", lambda route: late.append(route))
    with page.expect_request("**/Observation?*"):
        page.click("#language")
    page.click("#revoke")
    page.wait_for_selector("#welcome:visible")
    with page.expect_response("**/Observation?*"):
        late[0].fulfill(json={"resourceType": "Bundle"})
    assert page.locator("#record").is_hidden()
    assert page.locator("#problem").is_hidden()


@pytest.mark.slow
def test_opened_from_the_hospital_it_shows_the_patient_that_is_open(demo: Demo, page: Page) -> None:
    become(page, demo, "doctor")
    page.click("text=选择患者")
    name = page.locator(".people b").first.inner_text()
    page.locator("input[name=patient]").first.check()
    page.click("button[name=go]")
    allow(page)
    assert page.inner_text("#name") == name
    assert page.inner_text("#user").startswith("Practitioner/")


@pytest.mark.slow
def test_answer_to_nobody_and_a_strange_server_are_refused(demo: Demo, page: Page) -> None:
    page.goto(f"{demo.auth}/sample-app/index.html?code=stolen&state=made-up&iss={demo.auth}")
    page.wait_for_selector("#problem:visible")
    assert page.inner_text("#problem") == "这次登录不是由本页面发起的，请重新开始。"
    assert page.url == f"{demo.auth}/sample-app/index.html"
    page.goto(f"{demo.auth}/sample-app/launch.html?iss=https://evil.example/fhir&launch=x")
    page.wait_for_selector("#problem:visible")
    assert page.inner_text("#problem") == "本应用未配置此服务器。"
