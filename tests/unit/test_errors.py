"""Errors and the OperationOutcome they become. R4 operationoutcome.html, http.html#Status-Codes; STYLE section 4."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fhir_server import errors
from fhir_server.definitions import required_codes
from fhir_server.errors import Busy, FhirError, Invalid, Issue, NotFound, Unprocessable, outcome, outcome_resource
from fhir_server.resources.validate import validate

ISSUE_TYPES = {
    code for codes in required_codes()["http://hl7.org/fhir/ValueSet/issue-type"]["systems"].values() for code in codes
}


def classes(base: type[FhirError] = FhirError) -> Iterator[type[FhirError]]:
    yield base
    for inner in base.__subclasses__():
        yield from classes(inner)


@pytest.mark.parametrize("error", list(classes()))
def test_every_error_has_a_status_and_a_code_of_the_value_set(error: type[FhirError]) -> None:
    assert 400 <= error.status < 600
    assert error.code in ISSUE_TYPES
    found = outcome(error("Something is not as it should be."))
    assert found.status == error.status
    assert found.resource()["issue"][0]["code"] == error.code


@pytest.mark.parametrize("error", list(classes()))
def test_every_outcome_is_a_valid_resource(error: type[FhirError]) -> None:
    resource = outcome(error("Something is not as it should be.", expression="Patient.name[0]")).resource()
    assert not validate(resource).errors
    assert resource["issue"][0]["expression"] == ["Patient.name[0]"]


def test_many_findings_are_one_outcome() -> None:
    issues = [Issue("error", "value", "a", ("Patient.a",)), Issue("warning", "invariant", "b", ("Patient",))]
    found = outcome(Invalid(issues=issues)).resource()
    assert [issue["severity"] for issue in found["issue"]] == ["error", "warning"]
    assert [issue["expression"] for issue in found["issue"]] == [["Patient.a"], ["Patient"]]


def test_findings_of_the_validator_have_codes_of_the_value_set() -> None:
    resource = {"resourceType": "Patient", "gender": "x", "x": 1, "photo": [{"data": "QUJD"}], "contained": [{}]}
    found = validate(resource)
    assert len(found.issues) > 4
    assert {issue.code for issue in found.issues} <= ISSUE_TYPES
    assert not validate(outcome_resource(found.issues)).errors


def test_other_exceptions_become_500_without_their_text() -> None:
    found = outcome(RuntimeError("Zyxwv98"))
    assert found.status == 500
    assert "Zyxwv98" not in str(found.resource())


def test_no_finding_is_said_to_be_none() -> None:
    assert outcome_resource([])["issue"][0]["severity"] == "information"


def test_issue_of_an_entry_names_the_entry() -> None:
    assert Issue("error", "value", "x", ("Patient.name[0]",)).at("Bundle.entry[3]").expression == (
        "Bundle.entry[3].resource.name[0]",
    )
    assert Issue("error", "value", "x").at("Bundle.entry[3]").expression == ("Bundle.entry[3]",)


def test_busy_says_when_to_come_again() -> None:
    assert Busy().headers == {"Retry-After": "1"}


def test_one_off_code_replaces_that_of_the_class() -> None:
    assert NotFound("x", code="not-supported").issues[0].code == "not-supported"
    assert Unprocessable("x").issues[0].code == "business-rule"


def test_importing_errors_imports_nothing_of_ours() -> None:
    assert [name for name in vars(errors) if "fhir_server" in str(getattr(vars(errors)[name], "__module__", ""))] == [
        name for name in vars(errors) if getattr(vars(errors)[name], "__module__", "") == "fhir_server.errors"
    ]
