"""SMART App Launch 1.0 scopes, as version 2.2 still accepts them.

scopes-and-launch-context.html, "Scopes for requesting FHIR Resources": `read` of version 1 is `rs` of version 2,
`write` is `cud`, `*` is `cruds`.
"""

from __future__ import annotations

import pytest

from smart_auth import scopes
from smart_auth.scopes import ResourceScope


@pytest.mark.parametrize(
    "text, context, type_, actions",
    [
        ("patient/Observation.read", "patient", "Observation", "rs"),
        ("patient/Observation.write", "patient", "Observation", "cud"),
        ("patient/Observation.*", "patient", "Observation", "cruds"),
        ("user/*.read", "user", "*", "rs"),
        ("user/*.*", "user", "*", "cruds"),
        ("system/Patient.write", "system", "Patient", "cud"),
    ],
)
def test_words_of_version_1_mean_letters_of_version_2(text: str, context: str, type_: str, actions: str) -> None:
    scope = scopes.parse_one(text)
    assert isinstance(scope, ResourceScope)
    assert (scope.context, scope.type, scope.actions, scope.query) == (context, type_, actions, ())
    assert scopes.render([scope]) == text
    assert scopes.render([scopes.normalize(scope)]) == f"{context}/{type_}.{actions}"


@pytest.mark.parametrize(
    "text",
    [
        "patient/Observation.Read",
        "patient/Observation.readwrite",
        "patient/Observation.execute",
        "patient/observation.read",
        "patient/Nothing.read",
        "practitioner/Observation.read",
        "patient/Observation.read?category=laboratory",
        "patient/Observation.*?category=laboratory",
    ],
)
def test_what_version_1_does_not_have_is_reported_and_left_out(text: str) -> None:
    assert scopes.parse(text) == []
    assert scopes.invalid(text) == [text]


def test_both_versions_give_the_same_right() -> None:
    old, new = scopes.parse("patient/*.read"), scopes.parse("patient/*.rs")
    assert scopes.covers(old, new[0])
    assert scopes.covers(new, old[0])
    # "Granted scopes SHALL be in the same version as asked for": each stays as the client wrote it.
    assert scopes.render(scopes.intersect(old, new)) == "patient/*.read"
    assert scopes.render(scopes.intersect(new, old)) == "patient/*.rs"


def test_a_part_of_a_version_1_scope_stays_in_version_1_where_it_can() -> None:
    asked = scopes.parse("patient/*.*")
    assert scopes.render(scopes.intersect(asked, scopes.parse("patient/Observation.rs"))) == "patient/Observation.read"
    assert scopes.render(scopes.intersect(asked, scopes.parse("patient/Observation.r"))) == "patient/Observation.r"
