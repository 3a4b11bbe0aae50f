"""SMART App Launch 2.2, scopes-and-launch-context.html. The clause stands beside each check."""

from __future__ import annotations

import pytest

from fhir_server import definitions
from smart_auth import scopes
from smart_auth.scopes import PlainScope, ResourceScope


def test_resource_types_are_those_of_r4() -> None:
    assert frozenset(definitions.resource_types()) == scopes.TYPES


# --- "Scopes for requesting FHIR Resources": <patient|user|system>/<type|*>.<c|r|u|d|s>[?param=value] -----------------


@pytest.mark.parametrize("actions", ["c", "r", "u", "d", "s", "rs", "cud", "cruds", "cs", "rd"])
@pytest.mark.parametrize("context", ["patient", "user", "system"])
def test_any_non_empty_part_of_cruds_in_order_is_a_scope(context: str, actions: str) -> None:
    text = f"{context}/Observation.{actions}"
    scope = scopes.parse_one(text)
    assert isinstance(scope, ResourceScope)
    assert (scope.context, scope.type, scope.actions) == (context, "Observation", actions)
    assert scopes.normalize(scope) == scope


@pytest.mark.parametrize(
    "text",
    [
        # "Scope requests with undefined or out of order interactions MAY be ignored": they are.
        "patient/Observation.sr",
        "patient/Observation.dus",
        "patient/Observation.rr",
        "patient/Observation.x",
        "patient/Observation.",
        "patient/Observation",
        "patient/.rs",
        "/Observation.rs",
        "Patient/Observation.rs",
        "patient/Observation.rs?",
        "patient/Observation.rs?category",
        "patient/Observation.rs?category=",
        "patient/Observation.rs?=laboratory",
        "patient/Observation.rs?category=laboratory&",
        "patient/Observation.rs?_count=5",
        "patient/Observation.rs?_include=Observation:subject",
        "patient/**.rs",
        "patient/Nonsense.rs",
        'patient/Observation.rs?code="x"',
        "patient/Observation.rs?code=\\x",
        "launch/practitioner",
        "openId",
        "email",
        "patient/Observation.rs?code=" + "9" * 1000,
    ],
)
def test_what_is_no_scope_is_reported_and_never_raised(text: str) -> None:
    assert scopes.parse_one(text) is None
    assert scopes.invalid(f"openid {text}") == [text]
    assert scopes.render(scopes.parse(f"openid {text}")) == "openid"


def test_a_list_keeps_its_order_and_each_scope_once() -> None:
    text = "launch/patient openid fhirUser offline_access patient/*.rs patient/Observation.c openid"
    assert scopes.render(scopes.parse(text)) == "launch/patient openid fhirUser offline_access patient/*.rs " + (
        "patient/Observation.c"
    )
    assert scopes.parse("") == []


@pytest.mark.parametrize(
    "word",
    # "Scopes for requesting context data", "Scopes for requesting identity data", "... a refresh token"
    [*scopes.LAUNCH, *scopes.IDENTITY, *scopes.REFRESH],
)
def test_words_for_context_identity_and_refresh(word: str) -> None:
    assert scopes.parse(word) == [PlainScope(word)]


def test_too_many_scopes_are_not_read() -> None:
    many = " ".join(f"patient/Observation.rs?code={number}" for number in range(1000))
    assert len(scopes.parse(many)) == scopes.MAX_SCOPES


# --- "Finer-grained resource constraints using search parameters" -----------------------------------------------------

CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"


def test_a_granular_scope_carries_a_search() -> None:
    text = f"patient/Observation.rs?category={CATEGORY}|laboratory&status=final"
    scope = scopes.parse_one(text)
    assert isinstance(scope, ResourceScope)
    assert scope.query == (("category", f"{CATEGORY}|laboratory"), ("status", "final"))
    assert scopes.render([scope]) == text
    assert scopes.render([scopes.normalize(scope)]) == text


def test_values_are_decoded_and_encoded_again() -> None:
    scope = scopes.parse_one("user/Patient.rs?name=%E5%BC%A0%20%26")
    assert isinstance(scope, ResourceScope)
    assert scope.query == (("name", "张 &"),)
    assert scopes.normalize(scope).text == "user/Patient.rs?name=%E5%BC%A0%20%26"


# --- comparing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "allowed, asked, expected",
    [
        ("patient/*.rs", "patient/Observation.rs", True),
        ("patient/*.cruds", "patient/*.r", True),
        ("patient/Observation.rs", "patient/*.rs", False),
        ("patient/Observation.r", "patient/Observation.rs", False),
        ("patient/Observation.r patient/Observation.s", "patient/Observation.rs", True),
        ("user/*.cruds", "patient/Observation.rs", False),
        ("system/*.rs", "user/*.rs", False),
        ("patient/Observation.rs", "patient/Observation.rs?status=final", True),
        ("patient/Observation.rs?status=final", "patient/Observation.rs", False),
        ("patient/Observation.rs?status=final", "patient/Observation.r?code=1&status=final", True),
        ("patient/Observation.rs?status=final", "patient/Observation.rs?status=amended", False),
        ("launch/patient openid", "openid", True),
        ("launch", "launch/patient", False),
        ("openid", "fhirUser", False),
    ],
)
def test_a_scope_covers_what_is_part_of_it(allowed: str, asked: str, expected: bool) -> None:
    assert scopes.covers(scopes.parse(allowed), scopes.parse(asked)[0]) is expected


@pytest.mark.parametrize(
    "asked, allowed, granted",
    [
        ("openid launch/patient patient/*.rs", "launch/patient patient/*.cruds", "launch/patient patient/*.rs"),
        # "Servers MAY grant a subset": the part that is allowed, never more than was asked for.
        ("patient/*.rs", "patient/Observation.r patient/Condition.cruds", "patient/Observation.r patient/Condition.rs"),
        ("patient/Observation.cruds", "patient/*.rs", "patient/Observation.rs"),
        (
            "patient/Observation.rs",
            "patient/Observation.rs?category=laboratory",
            "patient/Observation.rs?category=laboratory",
        ),
        ("patient/Observation.rs?status=final", "patient/*.rs", "patient/Observation.rs?status=final"),
        ("user/*.rs", "patient/*.rs system/*.rs", ""),
        ("patient/Observation.c", "patient/Observation.rs", ""),
        ("patient/*.rs patient/Observation.rs", "patient/Observation.rs", "patient/Observation.rs"),
        ("offline_access", "online_access", ""),
    ],
)
def test_what_may_be_granted_is_the_part_that_is_allowed(asked: str, allowed: str, granted: str) -> None:
    assert scopes.render(scopes.intersect(scopes.parse(asked), scopes.parse(allowed))) == granted


# --- for a consent screen ---------------------------------------------------------------------------------------------


def test_scopes_are_grouped_by_what_they_reach() -> None:
    groups, plain = scopes.grouped(
        scopes.parse("openid patient/Observation.r patient/Observation.s patient/Observation.cu user/*.rs launch")
    )
    assert plain == ["openid", "launch"]
    assert [(one.context, one.type, one.actions, one.query) for one in groups] == [
        ("patient", "Observation", "crus", ()),
        ("user", "*", "rs", ()),
    ]
    assert [one.text for one in groups[0].scopes] == [
        "patient/Observation.r",
        "patient/Observation.s",
        "patient/Observation.cu",
    ]
    assert (groups[0].reads, groups[0].writes, groups[1].writes) == (True, True, False)


def test_a_restriction_makes_a_group_of_its_own() -> None:
    groups, _ = scopes.grouped(scopes.parse("patient/Observation.rs?status=final patient/Observation.c"))
    assert [(one.actions, one.query) for one in groups] == [("rs", (("status", "final"),)), ("c", ())]
