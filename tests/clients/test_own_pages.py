"""The server's own pages in Chromium: all of it works under their content policy, which lets nothing inline."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.clients.conftest import Demo

pytestmark = pytest.mark.slow


def test_the_overview_sends_what_is_typed(page: Page, demo: Demo) -> None:
    page.goto(demo.auth + "/")
    page.fill("#path", "metadata?_summary=true")
    page.click("#console button")
    expect(page.locator("#answer")).to_contain_text("CapabilityStatement")
    assert page.locator("#status").inner_text().startswith("200")


def test_the_api_documentation_is_drawn_and_opens(page: Page, demo: Demo) -> None:
    page.goto(demo.auth + "/docs")
    page.wait_for_selector(".opblock-summary")
    page.locator(".opblock-summary").first.click()
    page.wait_for_selector(".opblock.is-open .responses-wrapper")
    assert page.locator(".opblock").first.evaluate("one => getComputedStyle(one).borderTopStyle") == "solid"


def test_the_capabilities_are_filtered(page: Page, demo: Demo) -> None:
    page.goto(demo.auth + "/capabilities")
    page.fill("#filter", "molecularsequence")
    expect(page.locator("#types details:visible")).to_have_count(1)
