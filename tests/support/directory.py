"""A Directory whose people are a dict: a hospital in memory, for tests of the authorization server alone."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from smart_auth.context import Treated, Visit


@dataclass
class MemoryDirectory:
    """See context.Directory. Tests fill it with `add_patient`, `add_staff`, `add_dependent` and `add_encounter`."""

    names: dict[str, str] = field(default_factory=dict)
    """By reference."""
    own: dict[str, Treated] = field(default_factory=dict)
    """By Person: the Patient that the person is."""
    dependents: dict[str, list[Treated]] = field(default_factory=dict)
    """By Person."""
    encounters: dict[str, Visit] = field(default_factory=dict)
    """By Encounter id, in the order in which they were added: the oldest first."""
    hidden: set[str] = field(default_factory=set)
    """Encounter ids that nobody may see."""
    relations: dict[str, list[str]] = field(default_factory=dict)
    """Patient ids by Practitioner: whom he or she treats."""
    registered: list[str] = field(default_factory=list)
    """Names that `register` was called with."""

    def add_patient(self, id: str, name: str, person: str | None = None) -> str:
        """A Patient, and the Person whose own record it is. Returns its reference."""
        self.names[f"Patient/{id}"] = name
        if person is not None:
            self.names[f"Person/{person}"] = name
            self.own[f"Person/{person}"] = Treated(
                patient=id, name=name, relation="self", birth_date="1980-05-06", gender="female"
            )
        return f"Patient/{id}"

    def add_dependent(self, person: str, id: str, name: str, relation: str = "MTH") -> str:
        """A Patient whom a Person acts for, by a RelatedPerson. Returns the latter's reference."""
        related = f"RelatedPerson/{person}-{id}"
        self.names[f"Patient/{id}"] = name
        self.names[related] = self.names.get(f"Person/{person}", "")
        treated = Treated(patient=id, name=name, relation=relation, related_person=related, birth_date="2020-02-03")
        self.dependents.setdefault(f"Person/{person}", []).append(treated)
        return related

    def add_staff(self, id: str, name: str, treats: tuple[str, ...] = ()) -> str:
        """A Practitioner who treats these Patient ids. Returns the reference."""
        reference = f"Practitioner/{id}"
        self.names[reference] = name
        self.relations[reference] = list(treats)
        return reference

    def add_encounter(self, id: str, patient: str, status: str = "finished", **more: str) -> str:
        """An Encounter of a Patient id, after those that were added before. Returns its reference."""
        day = f"2026-01-{len(self.encounters) % 28 + 1:02}"
        values = {"code": "AMB", "kind": "ambulatory", "start": f"{day} 09:30", "end": f"{day} 10:00", **more}
        self.names[f"Encounter/{id}"] = f"ambulatory {day}"
        self.encounters[id] = Visit(id, patient, status, **values)
        return f"Encounter/{id}"

    def treated(self, person: str | None, fhir_user: str | None) -> list[Treated]:
        """See Directory.treated."""
        found = []
        if person in self.own:
            found.append(self.own[person])
        elif fhir_user is not None and fhir_user.startswith("Patient/") and fhir_user in self.names:
            found.append(Treated(patient=fhir_user[8:], name=self.names[fhir_user], relation="self"))
        return found + self.dependents.get(person or "", [])

    def display(self, reference: str) -> str | None:
        """See Directory.display."""
        return self.names.get(reference)

    def exists(self, reference: str) -> bool:
        """See Directory.exists."""
        return reference in self.names

    def patients(self, role: str, fhir_user: str | None, text: str, limit: int = 20) -> list[Treated]:
        """See Directory.patients."""
        known = self._seen(role, fhir_user)
        named = [Treated(patient=id, name=self.names[f"Patient/{id}"], relation="") for id in sorted(known)]
        return [replace(one) for one in named if text in one.name][:limit]

    def sees(self, role: str, fhir_user: str | None, patient: str) -> bool:
        """See Directory.sees."""
        return patient in self._seen(role, fhir_user)

    def visits(
        self,
        role: str,
        person: str | None,
        fhir_user: str | None,
        patient: str,
        until: str | None = None,
        limit: int = 20,
    ) -> list[Visit]:
        """See Directory.visits."""
        found = [
            one
            for one in reversed(self.encounters.values())
            if one.choosable and (until is None or (one.start or "")[:10] <= until)
        ]
        seen = [one for one in found if self.visit(role, person, fhir_user, patient, one.encounter) is not None]
        return sorted(seen, key=lambda one: not one.current)[:limit]

    def visit(self, role: str, person: str | None, fhir_user: str | None, patient: str, encounter: str) -> Visit | None:
        """See Directory.visit."""
        if role == "patient":
            seen = {one.patient for one in self.treated(person, fhir_user)}
        else:
            seen = self._seen(role, fhir_user)
        found = self.encounters.get(encounter)
        if found is None or encounter in self.hidden or found.patient != patient or patient not in seen:
            return None
        return found

    def _seen(self, role: str, fhir_user: str | None) -> set[str]:
        everybody = {reference[8:] for reference in self.names if reference.startswith("Patient/")}
        return everybody & set(self.relations.get(fhir_user or "", ())) if role == "doctor" else everybody

    def register(self, name: str, phone: str | None, email: str | None, locale: str) -> tuple[str, str]:
        """See Directory.register."""
        self.registered.append(name)
        id = f"new{len(self.registered)}"
        return f"Person/{id}", self.add_patient(id, name, id)
