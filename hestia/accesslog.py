"""Who looked at the records of the people whom an account may act for: AuditEvents in words. Kernel K23."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Any, Final

from fhir_server.authorize import EVERYTHING
from fhir_server.context import RequestContext, Server
from fhir_server.gzipped import inflate
from fhir_server.repository import Repository
from fhir_server.resources import jsonformat
from smart_auth.context import Access, Directory
from smart_auth.records import Account

JSON = dict[str, Any]

SHOWN: Final = 100
_LETTERS: Final = {"C": "c", "R": "r", "U": "u", "D": "d", "E": "s"}
"""AuditEvent.action; E is what IHE BALP gives a query."""


class AccessLog:
    """See Auth.access_log. Reads the store beside the gate: the account's own right to it is that of its patients."""

    def __init__(self, server: Server, directory: Directory) -> None:
        self._server, self._directory = server, directory

    def __call__(self, account: Account) -> list[Access]:
        """The newest entries about oneself and one's dependents, newest first."""
        own = next((link.fhir_user for link in account.roles if link.role == "patient"), None)
        treated = {one.patient: one.name for one in self._directory.treated(account.person, own)}
        if not treated:
            return []
        repository = Repository(self._server, RequestContext(EVERYTHING))
        patients = ",".join(f"Patient/{one}" for one in treated)
        pairs = [("patient", patients), ("_sort", "-date"), ("_count", str(SHOWN))]
        page = repository.search(repository.resolve(pairs, types=("AuditEvent",)).search)
        found = []
        for match in page.matches:
            assert match.body is not None
            event: JSON = jsonformat.parse(inflate(match.body))
            row = self._row(event, treated)
            if row is not None:
                found.append(row)
        return found

    def _row(self, event: JSON, names: dict[str, str]) -> Access | None:
        about = {
            (one.get("what") or {}).get("reference", "").removeprefix("Patient/")
            for one in event.get("entity") or ()
            if (one.get("what") or {}).get("reference", "").startswith("Patient/")
        }
        patient = next((names[one] for one in names if one in about), None)
        if patient is None or event["type"].get("code") != "rest" or event.get("outcome", "0") != "0":
            # Logins and tokens are not looks into a record, and what was refused showed nothing.
            return None
        people = [one for one in event.get("agent") or () if one.get("requestor")]
        agent = people[0] if people else (event.get("agent") or [{}])[0]
        purposes = {
            coding.get("code")
            for purpose in event.get("purposeOfEvent") or ()
            for coding in purpose.get("coding") or ()
        }
        return Access(
            at=int(datetime.fromisoformat(event["recorded"]).timestamp()),
            who=agent.get("name") or (agent.get("who") or {}).get("display") or "-",
            action=_LETTERS.get(event.get("action", ""), "r"),
            what=_type_of(event),
            patient=patient,
            role=_role_of(agent),
            app=_app_of(event),
            emergency="BTG" in purposes,
            reason=event.get("outcomeDesc") if "BTG" in purposes else None,
        )


def _type_of(event: JSON) -> str:
    """The resource type that it was about: of what was touched, or of the query."""
    for one in event.get("entity") or ():
        reference = (one.get("what") or {}).get("reference", "")
        if reference and not reference.startswith("Patient/"):
            return str(reference.partition("/")[0])
        if one.get("query"):
            path = base64.b64decode(one["query"]).decode("utf-8", "replace")
            return path.lstrip("/").partition("?")[0].split("/")[-1] or "Patient"
    return "Patient"


def _role_of(agent: JSON) -> str | None:
    for role in agent.get("role") or ():
        for coding in role.get("coding") or ():
            if coding.get("code"):
                return str(coding["code"])
    return None


def _app_of(event: JSON) -> str | None:
    others = [one for one in event.get("agent") or () if not one.get("requestor")]
    return next((one["name"] for one in others if one.get("name")), None)
