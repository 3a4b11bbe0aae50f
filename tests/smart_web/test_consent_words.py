"""Scopes in words, what a consent may grant, and where pages may lead."""

from __future__ import annotations

import pytest
from flask import Flask

from smart_auth.records import Client
from smart_auth.web.sentences import consent_view, sentences
from smart_auth.web.views import ConsentView, own_path, redirect_source

CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"


def view(app: Flask, scope: str, language: str = "en") -> ConsentView:
    client = Client(id="app", name="App", type="public", redirect_uris=("https://app.example/cb",))
    with app.test_request_context(headers={"Accept-Language": language}):
        return consent_view(client, "Chen", "patient", "Chen", scope, "https://app.example/cb")


@pytest.mark.parametrize(
    ("scope", "english", "chinese"),
    [
        ("patient/Observation.rs", "See measurements and laboratory results", "查看测量值与检验结果"),
        ("patient/Observation.read", "See measurements and laboratory results", "查看测量值与检验结果"),
        (f"patient/Observation.rs?category={CATEGORY}|laboratory", "See laboratory results", "查看检验结果"),
        ("patient/Appointment.cu", "Add or change appointments", "新增或修改预约挂号"),
        ("patient/Appointment.cruds", "See, add, change and delete appointments", "查看、新增、修改和删除预约挂号"),
        ("patient/Appointment.write", "Add, change and delete appointments", "新增、修改和删除预约挂号"),
        ("patient/Appointment.d", "Delete appointments", "删除预约挂号"),
        ("patient/*.rs", "See the whole health record", "查看全部健康档案"),
        (
            "user/Patient.rs",
            "See name, birth date, address and phone (of everyone whose record you may see)",
            "查看姓名、出生日期、住址和电话（您有权查看的所有人）",
        ),
        ("patient/Basic.rs", "See data of the kind Basic", "查看Basic 类数据"),
        (
            "patient/Observation.rs?code=http://loinc.org|4548-4",
            "See measurements and laboratory results, only where code = http://loinc.org|4548-4",
            "查看测量值与检验结果（仅限 code = http://loinc.org|4548-4）",
        ),
        (
            "offline_access",
            "Keep access when you are away, until you take it back",
            "您离开后仍可继续访问，直到您取消授权",
        ),
    ],
)
def test_scope_in_words(app: Flask, scope: str, english: str, chinese: str) -> None:
    for language, expected in (("en", english), ("zh", chinese)):
        with app.test_request_context(headers={"Accept-Language": language}):
            assert sentences(scope) == [expected]


def test_rights_on_one_type_are_one_line(app: Flask) -> None:
    made = view(app, "patient/Observation.r patient/Observation.s openid")
    assert [item.scope for item in made.items] == ["patient/Observation.r patient/Observation.s", "openid"]


def test_what_is_written_stands_under_its_own_heading_with_a_warning(app: Flask) -> None:
    made = view(app, "offline_access patient/Appointment.cu patient/Condition.rs")
    assert [(item.group, item.danger) for item in made.items] == [("read", False), ("change", True), ("account", True)]


def test_granted_is_what_was_ticked_of_what_was_offered(app: Flask) -> None:
    made = view(app, "launch/patient patient/Condition.rs patient/Patient.rs offline_access")
    assert made.granted([]) == ["launch/patient"]
    ticked = ["patient/Patient.rs", "patient/*.cruds", "system/*.rs"]
    assert made.granted(ticked) == ["patient/Patient.rs", "launch/patient"]


def test_part_of_a_scope_may_be_granted_instead_of_it(app: Flask) -> None:
    made = view(app, "patient/Observation.rs")
    parts = [part.scope for part in made.items[0].narrower]
    assert f"patient/Observation.rs?category={CATEGORY}|laboratory" in parts
    assert made.granted(parts[:2]) == parts[:2]
    assert made.granted(["patient/Observation.rs", *parts]) == ["patient/Observation.rs"]


def test_parts_are_at_least_those_of_us_core(app: Flask) -> None:
    """US Core 7, scopes.html; ONC (g)(10): what is offered in place of all conditions and all observations."""
    hl7, us_core = "http://terminology.hl7.org/CodeSystem", "http://hl7.org/fhir/us/core/CodeSystem"
    parts = {
        "Condition": {
            f"{hl7}/condition-category|encounter-diagnosis",
            f"{hl7}/condition-category|problem-list-item",
            f"{us_core}/condition-category|health-concern",
        },
        "Observation": {
            f"{hl7}/observation-category|laboratory",
            f"{hl7}/observation-category|social-history",
            f"{hl7}/observation-category|survey",
            f"{hl7}/observation-category|vital-signs",
            f"{us_core}/us-core-category|sdoh",
            f"{us_core}/us-core-observation-category|clinical-test",
        },
    }
    for type_, codes in parts.items():
        offered = {part.scope for part in view(app, f"patient/{type_}.rs").items[0].narrower}
        assert {f"patient/{type_}.rs?category={code}" for code in codes} <= offered


def test_only_version_2_scopes_that_read_have_parts(app: Flask) -> None:
    for scope in ("patient/Observation.read", "patient/Observation.cruds", "patient/Patient.rs"):
        assert view(app, scope).items[0].narrower == ()


@pytest.mark.parametrize(
    ("uri", "source"),
    [
        ("https://app.example/cb?x=1", "https://app.example"),
        ("http://127.0.0.1:4567/cb", "http://127.0.0.1:4567"),
        ("com.example.app:/cb", "com.example.app:"),
        ("", "'none'"),
    ],
)
def test_source_of_a_redirect_address(uri: str, source: str) -> None:
    assert redirect_source(uri) == source


@pytest.mark.parametrize("path", ["/account", "/oauth/request/abc?x=1", "/"])
def test_own_paths(path: str) -> None:
    assert own_path(path) == path


@pytest.mark.parametrize(
    "path", ["", None, "account", "//x", "/\\x", "/a\\b", "/a b", "/a\n", "http://x", "/" + "a" * 3000]
)
def test_other_addresses_are_no_own_paths(path: str | None) -> None:
    assert own_path(path) is None
