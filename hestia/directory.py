"""What the authorization server asks of the FHIR data (smart_auth.context.Directory), answered in process.

It reads with the policy *everything*: the questions are about who somebody is, not on somebody's behalf. Where a list
of patients is shown to staff, the treatment relation decides, as it does for their tokens.
"""

from __future__ import annotations

from typing import Any

from fhir_server.access.compile import compile_policy
from fhir_server.access.grant import Grant
from fhir_server.access.relations import relations_of
from fhir_server.authorize import EVERYTHING
from fhir_server.context import RequestContext, Server
from fhir_server.errors import FhirError
from fhir_server.gzipped import inflate
from fhir_server.repository import Repository, Write
from fhir_server.resources import jsonformat
from fhir_server.resources.types import TYPE_SET, is_id
from fhir_server.storage.writes import Stored
from hestia.names import name_of
from hestia.policies import Policies
from hestia.visits import Visits
from smart_auth.context import Treated, Visit

JSON = dict[str, Any]


class FhirDirectory:
    """See smart_auth.context.Directory. One per worker, over its Server."""

    def __init__(self, server: Server, policies: Policies) -> None:
        self._server = server
        self._policies = policies

    def treated(self, person: str | None, fhir_user: str | None) -> list[Treated]:
        """Oneself first, then dependents by name."""
        found = [
            treated
            for link in relations_of(self._server).family(person, fhir_user)
            if (treated := self._treated(link.patient, link.relation, link.related_person)) is not None
        ]
        return sorted(found, key=lambda one: (one.relation != "self", one.name))

    def display(self, reference: str) -> str | None:
        """The official name; None for what does not exist or has none."""
        resource = self._read(reference)
        return None if resource is None else name_of(resource)

    def exists(self, reference: str) -> bool:
        """Whether there is such a resource now."""
        return self._read(reference) is not None

    def patients(self, role: str, fhir_user: str | None, text: str, limit: int = 20) -> list[Treated]:
        """Patients whose name begins with `text`, or who carry that identifier, of those that the role's policy shows:
        what a search of theirs would find.
        """
        repository = self._as(role, None, fhir_user)
        wanted = text.strip()
        found: dict[str, Treated] = {}
        for name in ("name", "identifier") if wanted else ("",):
            pairs = [("_sort", "name"), ("_count", str(limit))]
            if name:
                pairs.append((name, _literal(wanted)))
            try:
                page = repository.search(repository.resolve(pairs, types=("Patient",)).search)
            except FhirError:
                continue
            for match in page.matches:
                found.setdefault(match.id, self._described(match.id, _resource(match), "", None))
        return list(found.values())[:limit]

    def sees(self, role: str, fhir_user: str | None, patient: str) -> bool:
        """Whether the role's policy shows a Patient."""
        try:
            self._as(role, None, fhir_user).read("Patient", patient)
        except FhirError:
            return False
        return True

    def visits(
        self,
        role: str,
        person: str | None,
        fhir_user: str | None,
        patient: str,
        until: str | None = None,
        limit: int = 20,
    ) -> list[Visit]:
        """Visits of a Patient that the role's policy shows to this person; see hestia.visits."""
        return Visits(self._as(role, person, fhir_user)).newest(patient, until, limit)

    def visit(self, role: str, person: str | None, fhir_user: str | None, patient: str, encounter: str) -> Visit | None:
        """One such visit, whatever its status."""
        return Visits(self._as(role, person, fhir_user)).one(patient, encounter)

    def register(self, name: str, phone: str | None, email: str | None, locale: str) -> tuple[str, str]:
        """A Person and the Patient that he or she is, in one transaction."""
        repository = self._repository()
        patient_id, person_id = self._server.new_id(), self._server.new_id()
        telecom = [
            {"system": system, "value": value}
            for system, value in (("phone", phone), ("email", email))
            if value is not None
        ]
        shared: JSON = {"active": True, "name": [{"use": "official", "text": name}]}
        if telecom:
            shared["telecom"] = telecom
        language = "zh-CN" if locale.startswith("zh") else "en"
        patient = {
            "resourceType": "Patient",
            "id": patient_id,
            **shared,
            "communication": [
                {"language": {"coding": [{"system": "urn:ietf:bcp:47", "code": language}]}, "preferred": True}
            ],
        }
        person = {
            "resourceType": "Person",
            "id": person_id,
            **shared,
            # K3: registered, nothing verified yet.
            "link": [{"target": {"reference": f"Patient/{patient_id}"}, "assurance": "level1"}],
        }
        repository.execute(
            [
                Write("update", "Patient", patient_id, resource=patient),
                Write("update", "Person", person_id, resource=person),
            ]
        )
        return f"Person/{person_id}", f"Patient/{patient_id}"

    # --- reading ------------------------------------------------------------------------------------------------------

    def _as(self, role: str, person: str | None, fhir_user: str | None) -> Repository:
        """What a token with every right of that role would read."""
        grant = Grant("picker", "picker", "", role, ("user/*.rs",), person=person, fhir_user=fhir_user)
        policy = compile_policy(self._server, grant, self._policies.current, self._server.clock())
        return Repository(self._server, RequestContext(policy))

    def _repository(self) -> Repository:
        return Repository(self._server, RequestContext(EVERYTHING))

    def _read(self, reference: str) -> JSON | None:
        resource_type, _, resource_id = reference.partition("/")
        if resource_type not in TYPE_SET or not is_id(resource_id):
            return None
        try:
            return _resource(self._repository().read(resource_type, resource_id))
        except FhirError:
            return None

    def _treated(self, patient: str, relation: str, related_person: str | None) -> Treated | None:
        resource = self._read(f"Patient/{patient}")
        return None if resource is None else self._described(patient, resource, relation, related_person)

    @staticmethod
    def _described(patient: str, resource: JSON, relation: str, related_person: str | None) -> Treated:
        return Treated(
            patient,
            name_of(resource) or patient,
            relation,
            related_person,
            resource.get("birthDate"),
            resource.get("gender"),
        )


def _resource(stored: Stored) -> JSON:
    assert stored.body is not None
    return jsonformat.parse(inflate(stored.body))


def _literal(text: str) -> str:
    """A value whose commas, pipes and backslashes mean themselves. R4 search.html#escaping."""
    for sign in ("\\", ",", "|", "$"):
        text = text.replace(sign, "\\" + sign)
    return text
