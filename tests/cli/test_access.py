"""Access control from the command line: what is refused at the start, demo accounts, tokens, accounts and clients."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import httpx
import pytest

from hestia import serve
from hestia.settings import load as load_settings
from tests.support.browser import Browser
from tests.support.command_line import Serving, free_port, run, wait_until

KEY = "ab" * 32


@pytest.mark.parametrize(
    "changes, refused",
    [
        ({"auth": "off"}, None),
        ({"auth": "off", "host": "::1"}, None),
        ({"auth": "off", "host": "localhost"}, None),
        ({"auth": "off", "host": "0.0.0.0"}, "this machine only"),
        ({"auth": "off", "host": "10.1.2.3"}, "this machine only"),
        ({"auth": "off", "mode": "production"}, "cannot be used in production"),
        ({"host": "0.0.0.0"}, None),
        ({"mode": "production", "audit": "off"}, "for measurements"),
        ({"mode": "production", "demo": "on"}, "cannot exist in production"),
        ({"mode": "production", "host": "0.0.0.0"}, "https://"),
        ({"mode": "production", "host": "0.0.0.0", "base_url": "https://example.org/fhir"}, None),
    ],
)
def test_settings_that_would_leave_patients_unprotected_are_refused(
    changes: dict[str, str], refused: str | None
) -> None:
    settings = load_settings(changes, {})
    if refused is None:
        serve.require_allowed(settings)
    else:
        with pytest.raises(click.ClickException, match=refused):
            serve.require_allowed(settings)


def test_production_does_not_start_without_a_key(sqlite_uri: str) -> None:
    port = str(free_port())
    output = run("serve", "--store", sqlite_uri, "--port", port, "--mode", "production", status=1).output
    assert output.startswith("Error: In production HESTIA_SECRET_KEY_FILE")


def test_a_setting_that_is_secret_is_not_shown() -> None:
    output = run("config", HESTIA_SECRET_KEY=KEY, HESTIA_SMTP="smtp://user:hush@mail.example.org").output
    assert KEY not in output
    assert "hush" not in output
    assert output.count("(set)") == 2


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Serving, Path, str]]:
    """A server with the small demo and access control, its directory, and what it said when it started."""
    directory = tmp_path_factory.mktemp("access")
    with Serving(directory, f"sqlite:///{directory / 'store.db'}", small_demo=True, auth="on") as serving:
        serving.ready(120)
        yield serving, directory, f"sqlite:///{directory / 'store.db'}"


@pytest.fixture
def in_place(started: tuple[Serving, Path, str], monkeypatch: pytest.MonkeyPatch) -> tuple[Serving, str]:
    monkeypatch.chdir(started[1])
    return started[0], started[2]


def described(uri: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run("demo", "--json", "--store", uri).output)
    return found


@pytest.mark.slow
def test_demo_tells_a_conformance_tool_everything(in_place: tuple[Serving, str]) -> None:
    found = described(in_place[1])
    assert found["base"] == in_place[0].base
    assert found["auth"] == in_place[0].base.removesuffix("/fhir")
    roles = [role for one in found["accounts"] for role in one["roles"]]
    assert roles.count("patient") >= 2
    assert roles.count("doctor") >= 2
    assert {"pharmacist", "nurse", "laboratory", "administrator"} <= set(roles)
    for account in found["accounts"]:
        assert {"username", "password", "roles", "fhirUser", "patient", "totp_secret"} <= set(account)
    assert sum(account["totp_secret"] is not None for account in found["accounts"]) == 1
    kinds = [client["type"] for client in found["clients"]]
    assert kinds.count("public") >= 2
    assert kinds.count("backend") == 2
    assert {"confidential-symmetric", "confidential-asymmetric"} <= set(kinds)
    for client in found["clients"]:
        if "kid" in client:
            assert "PRIVATE KEY" in Path(client["private_key_file"]).read_text()
            assert json.loads(Path(client["private_jwks_file"]).read_text())["keys"][0]["kid"] == client["kid"]
        assert (client["type"] == "confidential-symmetric") == ("client_secret" in client)


@pytest.mark.slow
def test_tokens_of_the_command_line_reach_what_their_accounts_may(in_place: tuple[Serving, str]) -> None:
    serving, uri = in_place
    seen = {}
    for name in ("patient-chen", "doctor-he", "demo-backend-read"):
        token = run("token", "--as", name, "--store", uri).output.strip().splitlines()[-1]
        answer = httpx.get(f"{serving.base}/Patient", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 200
        seen[name] = sorted(entry["resource"]["id"] for entry in answer.json()["entry"])
    assert seen == {"patient-chen": ["p001"], "doctor-he": ["p001", "p002"], "demo-backend-read": ["p001", "p002"]}
    refused = run("token", "--as", "nobody", "--store", uri, status=1).output
    assert "People: patient-chen" in refused
    assert (
        "may act for p001" in run("token", "--as", "patient-chen", "--patient", "p002", "--store", uri, status=1).output
    )


@pytest.mark.slow
def test_an_account_that_was_reset_logs_in_with_the_one_time_password_and_has_to_change_it(
    in_place: tuple[Serving, str],
) -> None:
    serving, uri = in_place
    assert re.search(r"^admin +active +administrator", run("account", "list", "--store", uri).output, re.MULTILINE)
    said = run("account", "reset", "admin", "--store", uri).output
    password = said.splitlines()[0].rpartition(" ")[2]
    with Browser("http://nowhere.invalid") as browser:
        browser.open(f"{serving.base.removesuffix('/fhir')}/login").log_in("admin", password)
        form = browser.form_with("again")
        assert browser.status == 200
        assert {"again"} <= set(form.values)
    assert "no such account" in run("account", "reset", "nobody", "--store", uri, status=1).output


@pytest.mark.slow
def test_a_registered_client_waits_until_it_is_approved(in_place: tuple[Serving, str]) -> None:
    serving, uri = in_place
    auth = serving.base.removesuffix("/fhir")
    metadata = {
        "client_name": "An app", "token_endpoint_auth_method": "none", "redirect_uris": ["http://127.0.0.1:9/back"],
        "scope": "launch/patient patient/*.rs",
    }  # fmt: skip
    client_id = httpx.post(f"{auth}/oauth/register", json=metadata).json()["client_id"]
    assert re.search(rf"^{re.escape(client_id)} +pending", run("client", "list", "--store", uri).output, re.MULTILINE)
    query = {"client_id": client_id, "response_type": "code", "redirect_uri": "http://127.0.0.1:9/back", "state": "s"}
    assert httpx.get(f"{auth}/oauth/authorize", params=query).status_code in (400, 403)
    assert "is active" in run("client", "approve", client_id, "--store", uri).output
    answer = httpx.get(f"{auth}/oauth/authorize", params=query)
    assert answer.status_code in (302, 303)
    assert "is disabled" in run("client", "disable", client_id, "--store", uri).output
    assert "no such client" in run("client", "approve", "nobody", "--store", uri, status=1).output


@pytest.mark.slow
def test_what_happened_is_in_the_audit_which_is_whole_and_hides_what_was_searched_for(
    in_place: tuple[Serving, str],
) -> None:
    serving, uri = in_place
    token = run("token", "--as", "doctor-he", "--store", uri).output.strip()
    headers = {"Authorization": f"Bearer {token}"}
    assert httpx.get(f"{serving.base}/Patient/p001", headers=headers).status_code == 200
    assert httpx.get(f"{serving.base}/Patient?name=nobodyatall", headers=headers).status_code == 200
    assert httpx.get(f"{serving.base}/Patient/p001").status_code == 401
    backend = run("token", "--as", "demo-backend-read", "--store", uri).output.strip()

    def events() -> list[dict[str, Any]]:
        query = "AuditEvent?_sort=-date&_count=200"
        found = httpx.get(f"{serving.base}/{query}", headers={"Authorization": f"Bearer {backend}"}).json()
        return [one["resource"] for one in found.get("entry", [])]

    def of(code: str) -> list[dict[str, Any]]:
        return [one for one in events() if any(kind["code"] == code for kind in one.get("subtype", []))]

    read = wait_until(lambda: [one for one in of("read") if one["outcome"] == "0"])[0]
    assert any(one.get("what", {}).get("reference", "").startswith("Patient/p001") for one in read["entity"])
    assert any(one.get("who", {}).get("reference") == "Practitioner/prac-10018" for one in read["agent"])
    assert wait_until(lambda: [one for one in events() if one["outcome"] == "8"])

    def queries() -> list[str]:
        found = [one for event in of("search-type") for one in event["entity"] if "query" in one]
        return [base64.b64decode(one["query"]).decode() for one in found]

    # The two workers chain what they recorded each in its own time.
    assert wait_until(lambda: any("name=" in query for query in queries()))
    assert not any("nobodyatall" in query for query in queries())
    for method in ("PUT", "DELETE"):
        answer = httpx.request(method, f"{serving.base}/AuditEvent/{read['id']}", json=read, headers=headers)
        assert answer.status_code in (403, 405)
    assert "The audit is whole." in run("audit", "verify", "--store", uri).output


@pytest.mark.slow
def test_a_patient_reads_who_looked_and_why_the_glass_was_broken(in_place: tuple[Serving, str]) -> None:
    serving, uri = in_place
    base, root = serving.base, serving.base.removesuffix("/fhir")
    he = {"Authorization": "Bearer " + run("token", "--as", "doctor-he", "--store", uri).output.strip()}
    wang = {"Authorization": "Bearer " + run("token", "--as", "doctor-wang", "--store", uri).output.strip()}
    assert httpx.get(f"{base}/Condition?patient=Patient/p002", headers=he).status_code == 200
    assert httpx.get(f"{base}/Patient/p002", headers=wang).status_code == 404
    reason = {"name": "reason", "valueString": "Unconscious in the emergency room"}
    opened = {"resourceType": "Parameters", "parameter": [reason]}
    answer = httpx.post(f"{base}/Patient/p002/$break-the-glass", headers=wang, json=opened)
    assert answer.status_code == 200, answer.text
    assert httpx.get(f"{base}/Patient/p002", headers=wang).status_code == 200
    account = next(one for one in described(uri)["accounts"] if one["username"] == "patient-xu")

    def looked() -> str:
        with Browser("http://nowhere.invalid") as browser:
            browser.open(f"{root}/login").log_in(account["username"], account["password"])
            return browser.open(f"{root}/account/access-log").html

    html = wait_until(lambda: found if "Unconscious" in (found := looked()) else "", pause_s=1.0)
    assert "何敏" in html
    assert "王志远" in html
    assert "emergency access" in html
    own = {"Authorization": "Bearer " + run("token", "--as", "patient-xu", "--store", uri).output.strip()}
    seen = httpx.get(f"{base}/AuditEvent?_count=200", headers=own).json()
    told = httpx.get(f"{base}/Communication", headers=own).json()
    assert seen["entry"]
    assert all("Patient/p001" not in str(one) for one in seen["entry"])
    assert any("Patient/p002" in str(one["resource"]["subject"]) for one in told["entry"])


@pytest.mark.slow
def test_what_was_exported_can_be_loaded_elsewhere(in_place: tuple[Serving, str], tmp_path: Path) -> None:
    uri = in_place[1]
    run("export", tmp_path / "out", "--store", uri)
    assert not (tmp_path / "out" / "AuditEvent.ndjson").exists()
    said = run("load", tmp_path / "out", "--store", f"sqlite:///{tmp_path / 'loaded.db'}").output
    assert "refused" not in said
    run("export", tmp_path / "audit", "--type", "AuditEvent", "--store", uri)
    assert [one.name for one in (tmp_path / "audit").iterdir()] == ["AuditEvent.ndjson"]


@pytest.mark.slow
def test_a_copy_holds_accounts_and_clients(in_place: tuple[Serving, str], tmp_path: Path) -> None:
    uri = in_place[1]
    copied = f"sqlite:///{tmp_path / 'copy.db'}"
    run("copy", copied, "--store", uri)
    assert run("account", "list", "--store", copied).output == run("account", "list", "--store", uri).output
    assert run("client", "list", "--store", copied).output == run("client", "list", "--store", uri).output
    saved = tmp_path / "saved.db"
    run("backup", saved, "--store", uri)
    backup = f"sqlite:///{saved}"
    assert run("account", "list", "--store", backup).output == run("account", "list", "--store", uri).output


@pytest.mark.slow
def test_the_first_administrator_is_told_once_and_demo_accounts_keep_production_away(
    sqlite_uri: str, directory: Path
) -> None:
    for number in range(2):
        with Serving(directory, sqlite_uri, small_demo=number == 0, auth="on") as serving:
            serving.ready(120)
            serving.signal(2)
            said = serving.ended()
        assert ("one-time password" in said) is (number == 0)
        sample = next(one for one in described(sqlite_uri)["clients"] if one["client_id"] == "sample-app")
        assert sample["redirect_uris"] == [f"http://127.0.0.1:{serving.port}/sample-app/index.html"]
    settings = {"HESTIA_SECRET_KEY_FILE": str(directory / "var" / "secret.key"), "HESTIA_MODE": "production"}
    refused = run("serve", "--store", sqlite_uri, "--port", str(serving.port), status=1, **settings).output
    assert "hestia demo --remove" in refused
    assert "removed" in run("demo", "--remove", "--store", sqlite_uri).output
    assert "no demo hospital" in run("demo", "--store", sqlite_uri, status=1).output


@pytest.mark.slow
def test_without_access_control_every_answer_and_page_says_so(sqlite_uri: str, directory: Path) -> None:
    with Serving(directory, sqlite_uri) as serving:
        serving.ready()
        root = serving.base.removesuffix("/fhir")
        for url in (f"{serving.base}/metadata", f"{serving.base}/Patient", f"{serving.base}/Patient/x"):
            assert httpx.get(url).headers["X-Hestia-Auth"] == "off"
        for url in (f"{root}/", f"{root}/docs", f"{root}/capabilities", f"{root}/nothing"):
            assert "Access control is off" in httpx.get(url).text
