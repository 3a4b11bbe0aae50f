"""One patient's record while it is written: ids, groups of resources that belong together, open problems."""

from __future__ import annotations

import datetime
import random
from dataclasses import dataclass, field
from typing import Final

from seed.base import JSON, Concept, stream
from seed.body import Body
from seed.formulary import Drug
from seed.patients import Person
from seed.rota import Rota
from seed.staff import Post
from seed.stock import Stock

_SHORT: Final = {
    "AllergyIntolerance": "allergy",
    "Appointment": "appt",
    "CarePlan": "plan",
    "ChargeItem": "charge",
    "Composition": "note",
    "Condition": "cond",
    "Consent": "consent",
    "Coverage": "cover",
    "DiagnosticReport": "report",
    "DocumentReference": "doc",
    "Encounter": "enc",
    "Goal": "goal",
    "Immunization": "imm",
    "Invoice": "inv",
    "MedicationDispense": "disp",
    "MedicationRequest": "rx",
    "Observation": "obs",
    "Procedure": "proc",
    "QuestionnaireResponse": "rating",
    "ServiceRequest": "order",
    "Specimen": "spec",
}

#: A drug that an allergy forbids -> what is given instead.
_INSTEAD: Final = {"amoxicillin": "azithromycin", "amoxicillin-child": "azithromycin-child"}


@dataclass(slots=True)
class World:
    """What all patients share."""

    seed: int
    today: datetime.date
    posts: list[Post]
    rota: Rota
    stock: Stock

    def duty(self, department: str) -> list[Post]:
        """The doctors of a department, clinics or not."""
        return [post for post in self.posts if post.department.key == department and post.is_doctor]


@dataclass(slots=True)
class Chart:
    """Collects a patient's resources, one group per visit, in order of time."""

    person: Person
    world: World
    body: Body
    rng: random.Random
    groups: list[list[JSON]] = field(default_factory=list)
    conditions: dict[str, JSON] = field(default_factory=dict)
    taken: set[datetime.date] = field(default_factory=set)
    doctors: dict[str, Post] = field(default_factory=dict)
    measured: dict[str, datetime.date] = field(default_factory=dict)
    supplied: dict[str, datetime.date] = field(default_factory=dict)  # drug -> until when the patient has it
    _numbers: dict[str, int] = field(default_factory=dict)

    @classmethod
    def open(cls, person: Person, world: World) -> Chart:
        """An empty chart with its own random streams."""
        body = Body(person, stream(world.seed, "body", person.number))
        return cls(person, world, body, stream(world.seed, "chart", person.number))

    @property
    def end(self) -> datetime.date:
        """The day nothing is written on any more: today, or the day of death."""
        return self.person.died or self.world.today

    def new_id(self, resource_type: str) -> str:
        """The next id of a type: "p007-obs-12"."""
        number = self._numbers.get(resource_type, 0) + 1
        self._numbers[resource_type] = number
        return f"{self.person.patient_id}-{_SHORT[resource_type]}-{number}"

    def subject(self) -> JSON:
        """Reference to the patient, with the name for display."""
        return {"reference": self.person.reference, "display": self.person.name.text}

    def doctor(self, department: str) -> Post:
        """The patient's usual doctor of a department, chosen once."""
        if department not in self.doctors:
            choice = self.world.rota.doctors(department) or self.world.duty(department)
            self.doctors[department] = self.rng.choice(choice)
        return self.doctors[department]

    def problem(self, concept: Concept) -> JSON | None:
        """The open Condition of a problem, if the patient has it."""
        return self.conditions.get(concept.zh)

    def allowed(self, drug: Drug, drugs: dict[str, Drug]) -> Drug:
        """The drug, or what is given instead to one who is allergic to it."""
        if "penicillin" in self.person.part.flags and drug.key in _INSTEAD:
            return drugs[_INSTEAD[drug.key]]
        return drug

    def due(self, key: str, day: datetime.date, days: int) -> bool:
        """Whether `key` was not done in the last `days`; notes that it is done now."""
        last = self.measured.get(key)
        if last and (day - last).days < days:
            return False
        self.measured[key] = day
        return True

    def all(self) -> list[JSON]:
        """All resources, flat."""
        return [item for group in self.groups for item in group]
