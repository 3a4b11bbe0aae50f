"""Builds the whole demo hospital in memory, in an order in which every reference points backwards."""

from __future__ import annotations

import datetime
from collections.abc import Iterator

from seed import background, billing, documents, drugs, hospital, immunization, patients, staff, upcoming
from seed.base import JSON, at, reference
from seed.chart import World
from seed.formulary import DRUGS
from seed.life import Life
from seed.rota import Rota
from seed.stock import Stock
from seed.terminology import extensions, local

#: Since when the hospital's definitions and prices stand.
DEFINED = datetime.date(2018, 1, 1)


def groups(count: int, seed: int, today: datetime.date) -> Iterator[list[JSON]]:
    """Groups of resources that belong in one transaction; every reference is to the same or an earlier group."""
    posts = staff.posts()
    world = World(seed, today, posts, Rota(posts, today), Stock(today))
    people = patients.people(count, seed, today)
    lives = [Life(person, world) for person in people]
    for life in lives:
        life.run()
    extra = [upcoming.appointments(life) for life in lives]
    world.stock.settle()
    yield from _single(_hospital(world))
    births: dict[tuple[datetime.date, str], int] = {}
    for life, appointments in zip(lives, extra, strict=True):
        person, chart = life.person, life.chart
        key = (person.birth, person.sex)
        births[key] = births.get(key, -1) + 1
        doctor = chart.doctor("paediatrics" if person.age(today) < 15 else "general")
        yield [patients.patient(person, today, births[key], reference(doctor.role, doctor.label))]
        related = patients.related(person, today)
        yield from _single(iter(related))
        guardian = reference(related[0], related[0]["name"][0]["text"]) if related else None
        front = [background.coverage(chart), background.consent(chart, guardian), *background.allergies(chart)]
        yield from _single(iter(front + immunization.immunizations(chart)))
        yield from chart.groups
        yield from _single(iter(appointments))


def _single(items: Iterator[JSON]) -> Iterator[list[JSON]]:
    return ([item] for item in items)


def _hospital(world: World) -> Iterator[JSON]:
    date = DEFINED.isoformat()
    yield from local.resources(date)
    yield from extensions.resources(date)
    yield from hospital.organizations()
    yield from hospital.locations()
    yield from hospital.services()
    yield from staff.practitioners(world.posts)
    yield from staff.roles(world.posts, world.rota.absences)
    for drug in DRUGS.values():
        yield drugs.product(drug, world.stock.on_hand(drug))
        yield drugs.knowledge(drug)
    yield from world.stock.lots()
    yield from world.stock.movements()
    yield from billing.definitions(DEFINED)
    yield from drugs.prices(DEFINED)
    yield from documents.questionnaires(date)
    yield from documents.articles(at(DEFINED, 9))
    yield from world.rota.schedules()
    yield from world.rota.slots()
