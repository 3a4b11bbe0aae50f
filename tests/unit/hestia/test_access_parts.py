"""Small parts of the composition: addresses behind proxies, events for the audit, names, expired records."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from fhir_server.audit.events import Event
from hestia.auditing import recorded
from hestia.composition import open_records
from hestia.housekeeping import Housekeeping
from hestia.names import name_of
from hestia.web import behind_proxies, sample_app
from smart_auth.context import AuthEvent
from smart_auth.records import OneTime


@pytest.mark.parametrize(
    "trusted, header, seen",
    [
        (0, "203.0.113.7", "10.0.0.1"),
        (1, None, "10.0.0.1"),
        (1, "203.0.113.7", "203.0.113.7"),
        (1, "198.51.100.1, 203.0.113.7", "203.0.113.7"),  # what is left of the proxy's own entry may be made up
        (2, "198.51.100.1, 203.0.113.7", "198.51.100.1"),
        (2, "203.0.113.7", "10.0.0.1"),
    ],
)
def test_only_trusted_proxies_are_believed(trusted: int, header: str | None, seen: str) -> None:
    got: list[str] = []

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        got.append(environ["REMOTE_ADDR"])
        return []

    environ = {"REMOTE_ADDR": "10.0.0.1"} | ({"HTTP_X_FORWARDED_FOR": header} if header else {})
    behind_proxies(application, trusted)(environ, lambda *_: None)
    assert got == [seen]


def test_the_sample_app_serves_its_files_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<p>app")
    (tmp_path / "notes.md").write_text("not served")
    app = sample_app(tmp_path)

    def ask(path: str, method: str = "GET") -> tuple[str, dict[str, str], bytes]:
        answered: list[Any] = []
        environ = {"PATH_INFO": path, "REQUEST_METHOD": method}
        body = b"".join(app(environ, lambda status, headers: answered.extend((status, dict(headers)))))
        return answered[0], answered[1], body

    for path in ("/sample-app/", "/sample-app/index.html"):
        status, headers, body = ask(path)
        assert (status, body) == ("200 OK", b"<p>app")
        assert "script-src 'self'" in headers["Content-Security-Policy"]
        assert headers["X-Frame-Options"] == "DENY"
    for path in ("/sample-app/notes.md", "/sample-app/../pyproject.toml", "/sample-app/x"):
        assert ask(path)[0].startswith("404")
    assert ask("/sample-app/", "POST")[0].startswith("404")


def test_an_event_of_the_authorization_server_keeps_who_and_whom() -> None:
    event = AuthEvent(
        "login", 8, account="a", name="N", role="doctor", patient="p1", address="192.0.2.1", detail={"why": "x"}
    )
    assert recorded(event, 5) == Event(
        at=5, action="login", kind="security", outcome=8, account="a", name="N", role="doctor", patient="Patient/p1",
        address="192.0.2.1", detail={"why": "x"},
    )  # fmt: skip


@pytest.mark.parametrize(
    "resource, name",
    [
        (
            {"resourceType": "Patient", "name": [{"text": "Old", "use": "old"}, {"text": "New", "use": "official"}]},
            "New",
        ),
        (
            {"resourceType": "Patient", "name": [{"family": "Chalmers", "given": ["Peter", "James"]}]},
            "Peter James Chalmers",
        ),
        ({"resourceType": "Patient"}, None),
        ({"resourceType": "Organization", "name": "Hospital"}, "Hospital"),
        (
            {"resourceType": "Encounter", "class": {"code": "AMB"}, "period": {"start": "2026-01-02T03:04:05Z"}},
            "AMB 2026-01-02",
        ),
    ],
)
def test_resources_are_called_by_their_official_name(resource: dict[str, Any], name: str | None) -> None:
    assert name_of(resource) == name


def test_housekeeping_removes_what_has_expired_and_survives_a_store_that_is_away(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'store.db'}"
    store = open_records(uri)
    store.put(OneTime(id="past", created_at=1, expires_at=2))
    store.put(OneTime(id="kept", created_at=1))
    assert Housekeeping(uri).purge() == 1
    assert store.get(OneTime, "kept") is not None
    store.close()
    assert Housekeeping(f"sqlite:///{tmp_path / 'absent' / 'store.db'}").purge() == 0
