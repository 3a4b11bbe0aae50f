"""R4 operationoutcome.html, http.html#Status-Codes: what every error looks like."""

from __future__ import annotations

import pytest

from fhir_server.errors import Busy
from tests.support.http import Client
from tests.support.resources import patient

SECRET = "Zebrowski"

CASES = [
    ("GET", f"/Patient/{SECRET}", None),
    ("GET", f"/Patient?birthdate={SECRET}", None),
    ("GET", f"/Observation?value-quantity={SECRET}", None),
    ("GET", f"/Patient?_count={SECRET}", None),
    ("GET", f"/Patient?_query={SECRET}", None),
    ("GET", f"/Patient?_format={SECRET}", None),
    ("GET", f"/Patient?_cursor={SECRET}", None),
    ("GET", f"/Patient/a/_history?_since={SECRET}", None),
    ("POST", "/Patient", patient(gender=SECRET)),
    ("POST", "/Patient", patient(birthDate=SECRET)),
    ("POST", "/Patient", patient(active=SECRET)),
    ("POST", "/Patient", {**patient(), f"{SECRET} x": 1}),
    ("POST", "/Patient", patient(name=[{"family": [SECRET]}])),
    ("POST", "/Observation", {"resourceType": "Observation", "status": SECRET, "code": {"text": SECRET}}),
    ("PUT", "/Patient/a", patient(SECRET)),
    ("POST", "", {"resourceType": "Bundle", "type": SECRET}),
    (
        "POST",
        "",
        {
            "resourceType": "Bundle",
            "type": "transaction",
            "entry": [{"request": {"method": "GET", "url": f"Patient?birthdate={SECRET}"}}],
        },
    ),
    (
        "POST",
        "/Patient/$validate",
        {"resourceType": "Parameters", "parameter": [{"name": "mode", "valueCode": SECRET}]},
    ),
]


@pytest.mark.parametrize("method, path, body", CASES)
def test_errors_are_outcomes_without_values_of_the_request(
    client: Client, method: str, path: str, body: object
) -> None:
    answer = client.request(method, path, body)
    assert answer.status >= 400
    assert answer.status != 500
    assert SECRET not in answer.body.decode()
    for issue in answer.json["issue"]:
        assert issue["severity"] in ("fatal", "error", "warning", "information")
        assert issue["diagnostics"]


def test_the_field_at_fault_is_named(client: Client) -> None:
    answer = client.post("/Patient", patient(contact=[{"name": {"family": 1}}]))
    assert ["Patient.contact[0].name.family"] in [issue.get("expression") for issue in answer.json["issue"]]


def test_an_unexpected_failure_is_500_without_its_text(
    client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError(SECRET)

    monkeypatch.setattr(type(client.server.store), "search", fail)
    answer = client.get("/Patient?family=x", x_request_id="my-request-1")
    assert answer.status == 500
    assert SECRET not in answer.body.decode()
    assert answer.headers["x-request-id"] == "my-request-1"
    assert "my-request-1" in caplog.text


def test_a_request_id_that_could_forge_log_lines_is_replaced(client: Client) -> None:
    assert client.get("/metadata", x_request_id="a b\n500").headers["x-request-id"] != "a b\n500"
    assert client.get("/metadata", x_request_id="ok-1.2").headers["x-request-id"] == "ok-1.2"


def test_a_failing_read_is_an_outcome_too(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain read takes a short way, which leaves failures to the general one."""

    def fail(*_: object, **__: object) -> None:
        raise Busy

    monkeypatch.setattr(type(client.server.store), "read", fail)
    answer = client.get("/Patient/a")
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
