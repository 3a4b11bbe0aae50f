"""EHR launches: what the portal or an API prepares, and an app's authorization request then refers to.

SMART App Launch 2.2, app-launch.html, "Launch App: EHR Launch". The `launch` parameter is 256 random bits; it works
once, within five minutes, for the account and role that it was made for, and gives no right by itself.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from smart_auth.problems import N_, UnusableValue
from smart_auth.records import Account, Client, Launch
from smart_auth.tokens import digest

if TYPE_CHECKING:
    from smart_auth.context import Auth

LIFETIME_S: Final = 300
MAX_CONTEXTS: Final = 20
CONTEXT: Final = ("fhirContext", "intent", "need_patient_banner", "smart_style_url", "tenant")
"""Launch parameters beside patient and encounter, under their names in the token response."""

_ID: Final = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_REFERENCE: Final = re.compile(r"([A-Z][A-Za-z]+)/([A-Za-z0-9\-.]{1,64})")
_NO_PATIENT: Final = N_("There is no such patient whom you may open.")
_NO_ENCOUNTER: Final = N_("There is no such visit of this patient that you may see.")
_WRONG: Final = N_("This launch parameter is not as SMART App Launch has it.")


class Launches:
    """Makes launches, and gives each out once."""

    def __init__(self, auth: Auth) -> None:
        self._auth = auth

    def create(
        self,
        account: Account,
        role: str,
        *,
        client: str | None = None,
        patient: str | None = None,
        encounter: str | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> str:
        """The `launch` parameter. `client` None: for any app; `patient` and `encounter` are ids.

        Raises: UnusableValue for a patient whom this person may not act for, an encounter that is somebody else's or
        that the person may not see, or a context that is not as SMART has it.
        """
        auth = self._auth
        if patient is not None and not self._may_open(account, role, patient):
            raise UnusableValue("patient", _NO_PATIENT)
        if encounter is not None and not self._may_show(account, role, patient, encounter):
            raise UnusableValue("encounter", _NO_ENCOUNTER)
        found = auth.store.get(Client, client) if client is not None else None
        if client is not None and (found is None or found.status != "active"):
            raise UnusableValue("client_id", N_("There is no such app."))
        secret, now = secrets.token_urlsafe(32), auth.clock()
        auth.store.insert(
            Launch(
                id=digest(secret),
                account=account.id,
                role=role,
                client=client,
                patient=patient,
                encounter=encounter,
                context=checked_context(context or {}),
                created_at=now,
                expires_at=now + LIFETIME_S,
            )
        )
        return secret

    def take(self, launch: str) -> Launch | None:
        """The launch of a parameter, once. None when it is unknown, used or too old."""
        return self._auth.store.take(Launch, digest(launch))

    def address(self, client: Client, launch: str) -> str | None:
        """Where the browser goes to launch an app; None for an app without a launch address."""
        if client.launch_uri is None:
            return None
        sign = "&" if "?" in client.launch_uri else "?"
        return client.launch_uri + sign + urlencode({"iss": self._auth.settings.base_url, "launch": launch})

    def _may_open(self, account: Account, role: str, patient: str) -> bool:
        if not _ID.fullmatch(patient):
            return False
        fhir_user = _own(account, role)
        if role == "patient":
            return any(one.patient == patient for one in self._auth.directory.treated(account.person, fhir_user))
        # The consent page shows the name, and an answer would tell whether there is such a patient.
        return self._auth.directory.sees(role, fhir_user, patient)

    def _may_show(self, account: Account, role: str, patient: str | None, encounter: str) -> bool:
        if patient is None or not _ID.fullmatch(encounter):
            return False
        found = self._auth.directory.visit(role, account.person, _own(account, role), patient, encounter)
        return found is not None


def _own(account: Account, role: str) -> str | None:
    return next((one.fhir_user for one in account.roles if one.role == role), None)


def checked_context(context: Mapping[str, Any]) -> dict[str, Any]:
    """The launch parameters that there are, if they are as SMART has them. Raises: UnusableValue.

    scopes-and-launch-context.html, "Launch context arrives with your access_token" and "fhirContext".
    """
    found = {name: context[name] for name in CONTEXT if context.get(name) is not None}
    for name in ("intent", "tenant", "smart_style_url"):
        if name in found and not (isinstance(found[name], str) and 0 < len(found[name]) <= 500):
            raise UnusableValue(name, _WRONG)
    if not found.get("smart_style_url", "https://").startswith(("https://", "http://")):
        raise UnusableValue("smart_style_url", _WRONG)
    if "need_patient_banner" in found and not isinstance(found["need_patient_banner"], bool):
        raise UnusableValue("need_patient_banner", _WRONG)
    if "fhirContext" in found:
        contexts = found["fhirContext"]
        if not isinstance(contexts, list) or len(contexts) > MAX_CONTEXTS or not all(map(_is_context, contexts)):
            raise UnusableValue("fhirContext", _WRONG)
    return found


def _is_context(one: Any) -> bool:
    """An object with a reference, a canonical or an identifier. The patient and the encounter of the launch are not
    repeated here: those types need a role of their own.
    """
    if not isinstance(one, dict) or not set(one) <= {"reference", "canonical", "identifier", "type", "role"}:
        return False
    if not ({"reference", "canonical", "identifier"} & set(one)) or one.get("role", "launch") == "":
        return False
    for name in ("reference", "canonical", "type", "role"):
        if name in one and not (isinstance(one[name], str) and len(one[name]) <= 500):
            return False
    if "identifier" in one and not isinstance(one["identifier"], dict):
        return False
    if "reference" in one:
        parts = _REFERENCE.fullmatch(one["reference"])
        if parts is None:
            return False
        return parts[1] not in ("Patient", "Encounter") or one.get("role", "launch") != "launch"
    return True
