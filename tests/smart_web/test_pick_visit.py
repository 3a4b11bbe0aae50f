"""The page on which a visit is chosen, and how visits are called, in both languages."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import pytest
from flask import Flask

from smart_auth.context import Auth, Visit
from smart_auth.records import Account, Client
from smart_auth.web.sentences import consent_view
from smart_auth.web.words import visit_name, visit_place, visit_time
from tests.smart_web.conftest import Browser
from tests.support.directory import MemoryDirectory


def visit(**more: Any) -> Visit:
    return Visit(**{"encounter": "e", "patient": "p1", "status": "finished", **more})


@pytest.mark.parametrize(
    ("code", "kind", "english", "chinese"),
    [
        ("AMB", "ambulatory", "Outpatient visit", "门诊"),
        ("IMP", "", "Hospital stay", "住院"),
        ("EMER", "", "Emergency visit", "急诊"),
        ("VR", "", "Online visit", "线上问诊"),
        ("OWN", "Of our own", "Of our own", "Of our own"),
        ("", "", "Visit", "就诊"),
    ],
)
def test_visit_is_named_by_its_class(app: Flask, code: str, kind: str, english: str, chinese: str) -> None:
    for language, expected in (("en", english), ("zh", chinese)):
        with app.test_request_context(headers={"Accept-Language": language}):
            assert visit_name(visit(code=code, kind=kind)) == expected


@pytest.mark.parametrize(
    ("start", "end", "shown"),
    [
        ("2026-01-05 09:30", "2026-01-05 10:00", "2026-01-05 09:30"),
        ("2026-01-05 09:30", None, "2026-01-05 09:30"),
        ("2026-01-05 09:30", "2026-01-09 11:00", "2026-01-05 – 2026-01-09"),
        ("2026-01", "2026-02", "2026-01 – 2026-02"),
        ("2026", None, "2026"),
        (None, "2026-01-05", "2026-01-05"),
        (None, None, ""),
    ],
)
def test_time_of_a_visit(start: str | None, end: str | None, shown: str) -> None:
    assert visit_time(visit(start=start, end=end)) == shown


def test_place_of_a_visit() -> None:
    assert visit_place(visit(department="Cardiology", practitioner="He")) == "Cardiology · He"
    assert visit_place(visit(practitioner="He")) == "He"
    assert visit_place(visit()) == ""


def test_visit_that_was_chosen_may_be_kept_back_but_not_that_of_a_launch(app: Flask) -> None:
    """An app that was launched with a visit is told of it by `launch`, whatever is ticked."""
    client = Client(id="app", name="App", type="public", redirect_uris=("https://app.example/cb",))
    with app.test_request_context():
        for chooses, optional in ((True, True), (False, False)):
            made = consent_view(
                client, "Chen", "patient", "Chen", "launch/patient launch/encounter", "https://app.example/cb",
                visit=visit(), chooses_visit=chooses,
            )  # fmt: skip
            assert [(one.scope, one.optional) for one in made.items] == [
                ("launch/patient", False), ("launch/encounter", optional)
            ]  # fmt: skip
            assert not made.without_visit


@pytest.mark.parametrize(
    ("language", "heading", "current", "cancel"),
    [
        ("en", "Which visit shall “<App>” open?", "Hospital stay · 2026-01-02 09:30 now", "Cancel"),
        ("zh", "“<App>”要打开哪一次就诊？", "住院 · 2026-01-02 09:30 正在就诊", "取消"),
    ],
)
def test_page_to_choose_a_visit(
    auth: Auth, browser: Browser, directory: MemoryDirectory, doctor: Account,
    language: str, heading: str, current: str, cancel: str,
) -> None:  # fmt: skip
    auth.store.put(
        Client(
            id="app", name="<App>", type="public", redirect_uris=("https://app.example/cb",), scope="launch/encounter"
        )
    )
    directory.add_encounter("old", "p1", department="<Heart>", practitioner="He", reason="<b>Cough</b>")
    directory.add_encounter("now", "p1", "in-progress", code="IMP")
    browser.language = language
    browser.log_in("doctor-he")
    asked = {
        "response_type": "code", "client_id": "app", "redirect_uri": "https://app.example/cb", "state": "s",
        "scope": "launch/encounter", "aud": "https://example.org/fhir", "code_challenge_method": "S256",
        "code_challenge": "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
    }  # fmt: skip
    browser.get("/oauth/authorize?" + urlencode(asked))
    browser.send(browser.path, decision="choose", patient="p1")
    assert browser.says(heading)
    assert browser.says(current)
    assert browser.says(cancel)
    for text in ("<Heart> · He", "<b>Cough</b>"):
        assert browser.says(text)
    assert browser.page is not None
    assert "form-action 'self' https://app.example" in browser.page.headers["Content-Security-Policy"]
