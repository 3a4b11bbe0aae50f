"""Who stands in which relation to which patients, now: family (K2), treatment (K23), Consent, break-glass.

A Snapshot is what a policy is compiled from. It is at most RELATION_CACHE_S old, and replaced at once when this process
commits something that touches it (`committed`, an after_commit hook that installs itself).
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from fhir_server.access import breakglass
from fhir_server.access.consents import Agreements, Layers, by_patient
from fhir_server.access.grant import Grant
from fhir_server.context import Server
from fhir_server.gzipped import inflate
from fhir_server.resources import jsonformat
from fhir_server.resources.types import TYPE_SET, is_id
from fhir_server.search import ast
from fhir_server.search.resolve import resolver
from fhir_server.storage.writes import Version
from fhir_server.wire import instant

JSON = dict[str, Any]

RELATION_CACHE_S: Final = 1.0
ADULT_YEARS: Final = 18
DISCREET_YEARS: Final = 14
"""From this age on guardians do not see what is labelled sensitive (K2, T12)."""
MAX_TREATED: Final = 50_000

OPEN_ENCOUNTERS: Final = "planned,arrived,triaged,in-progress,onleave"
LIVE_APPOINTMENTS: Final = "proposed,pending,booked,arrived,checked-in,fulfilled"

RELEVANT: Final = frozenset(
    ("Appointment", "CareTeam", "Consent", "Encounter", "Patient", "Person", "Practitioner", "PractitionerRole")
) | {"RelatedPerson"}

_DAY_US: Final = 86_400_000_000
_PEOPLE: Final = ("Patient/", "Person/", "Practitioner/", "PractitionerRole/", "RelatedPerson/")
_REMEMBERED: Final = 2000
_PAGE: Final = 1000


# --- what was found ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Part:
    """Patients (ids) in one situation. `related`: seen unless a Consent denies it; else only what one permits.

    `agreements`: what their Consents say. `discreet`: nothing that is labelled sensitive.
    """

    ids: frozenset[str]
    related: bool = True
    agreements: tuple[Layers, ...] = ()
    discreet: bool = False


Circle = tuple[Part, ...]
"""Patients of one variable such as %treated."""


@dataclass(frozen=True, slots=True)
class Link:
    """A Patient whom a person may act for. `relation`: "self", or the code of RelatedPerson.relationship."""

    patient: str
    relation: str
    related_person: str | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that a policy's variables stand for. References are relative, patients are ids."""

    fhir_user: str | None = None
    own: Circle = ()
    patients: Circle = ()
    treated: Circle = ()
    opened: Circle = ()
    needed: frozenset[str] = frozenset()
    """Of those whose records were opened, the ones whom treatment does not show as a whole."""
    withheld: Circle = ()
    """Patients whose Consents deny something to this caller, for rules that hold for the whole hospital."""
    references: tuple[str, ...] = ()
    """%self: everything that the person is, as a reference may name it."""
    practitioner: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    organizations: tuple[str, ...] = ()


EMPTY: Final = Snapshot()


def patients_of(circle: Circle) -> frozenset[str]:
    """The ids of a circle."""
    return frozenset(id_ for part in circle for id_ in part.ids)


# --- what was committed -----------------------------------------------------------------------------------------------

_touched: deque[tuple[int, frozenset[str] | None]] = deque(maxlen=_REMEMBERED)
_sequence = 0
_lock = threading.Lock()
"""Workers may be threads of one process."""


def committed(versions: Sequence[Version]) -> None:
    """An AfterCommit hook: remembers, for all servers of this process, whom these versions are about."""
    people: set[str] = set()
    relevant = wide = False
    for version in versions:
        if version.type in RELEVANT:
            relevant = True
            # What a deleted resource said is not known here; not every actor of a Consent is in the index, and a
            # RelatedPerson does not say whose it is.
            wide = wide or version.body is None or version.type in ("Consent", "RelatedPerson")
            people.add(version.address)
            for document in version.documents:
                people.update(key for _, key in document.keys if key.startswith(_PEOPLE))
    if relevant:
        _record(None if wide else frozenset(people))


def touch() -> None:
    """Makes every Snapshot of this process old: something changed that is no resource."""
    _record(None)


def _record(people: frozenset[str] | None) -> None:
    global _sequence
    with _lock:
        _touched.append((_sequence + 1, people))
        _sequence += 1


def _still_good(since: int, interest: frozenset[str]) -> bool:
    """Whether nothing that was committed after `since` touches these people."""
    if since == _sequence:
        return True
    with _lock:
        if not _touched or _touched[0][0] > since + 1:
            return False
        return all(people is not None and not people & interest for number, people in _touched if number > since)


# --- finding out ------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Known:
    snapshot: Snapshot
    at: float
    sequence: int
    interest: frozenset[str]


class Relations:
    """Snapshots of one server (one worker). `monotonic` is seconds, for the age of what is remembered."""

    def __init__(
        self,
        server: Server,
        *,
        cache_s: float = RELATION_CACHE_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._server = server
        self._treatment_us = server.settings.treatment_days * _DAY_US
        self._cache_s = cache_s
        self._monotonic = monotonic
        self._known: OrderedDict[tuple[str | None, str | None], _Known] = OrderedDict()
        self._agreements = Agreements(server, monotonic, cache_s)
        self._agreed = -1
        hooks = server.interceptors.after_commit
        if committed not in hooks:
            server.interceptors = replace(server.interceptors, after_commit=(*hooks, committed))

    def snapshot(self, grant: Grant, *, fresh: bool = False) -> Snapshot:
        """What holds for the person of a grant. The same object as before while nothing changed."""
        if grant.role == "system":
            return EMPTY
        return self._snapshot(grant.person, grant.fhir_user, fresh)

    def family(self, person: str | None, fhir_user: str | None) -> list[Link]:
        """Whom a person may act for: oneself, then dependents (K2)."""
        now_us = self._server.clock()
        links = self._links(person, fhir_user)
        kept = patients_of(self._family(links, self._self(person, fhir_user, links), now_us)[1])
        return [link for link in links if link.patient in kept]

    def treated(self, fhir_user: str | None) -> frozenset[str]:
        """Patients with whom a practitioner has a treatment relation, as Consents have it."""
        return patients_of(self._snapshot(None, fhir_user, False).treated)

    def _snapshot(self, person: str | None, fhir_user: str | None, fresh: bool) -> Snapshot:
        key = (person, fhir_user)
        now, sequence = self._monotonic(), _sequence
        known = self._known.get(key)
        if (
            known is not None
            and not fresh
            and now - known.at < self._cache_s
            and _still_good(known.sequence, known.interest)
        ):
            known.sequence = sequence
            return known.snapshot
        self._agreements.refresh(now=fresh or sequence != self._agreed)
        self._agreed = sequence
        made = self._make(person, fhir_user)
        if known is not None and known.snapshot == made:
            made = known.snapshot
        interest = frozenset(
            (
                *(one for one in (person, fhir_user) if one is not None),
                *made.references,
                *made.roles,
                *made.organizations,
                *(f"Patient/{id_}" for circle in (made.patients, made.treated) for part in circle for id_ in part.ids),
            )
        )
        self._known[key] = _Known(made, now, sequence, interest)
        self._known.move_to_end(key)
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return made

    def _make(self, person: str | None, fhir_user: str | None) -> Snapshot:
        now_us = self._server.clock()
        links = self._links(person, fhir_user)
        references = self._self(person, fhir_user, links)
        own, patients = self._family(links, references, now_us)
        made = Snapshot(fhir_user, own, patients, references=tuple(sorted(references)))
        if fhir_user is None or not fhir_user.startswith("Practitioner/"):
            return made
        practitioner = self._read([fhir_user]).get(fhir_user)
        if practitioner is None or practitioner.get("active") is False:
            return replace(made, references=())
        roles = self._roles(fhir_user, now_us)
        organizations = tuple(
            sorted({self._ref(one.get("organization")) for one in roles.values() if one.get("organization")})
        )
        refs = frozenset((fhir_user, *roles, *organizations))
        opened = breakglass.opened(self._server.store, fhir_user, now_us)
        treated = self._treated((fhir_user, *sorted(roles)), now_us)
        said = by_patient(self._agreements, refs, now_us)
        return replace(
            made,
            references=tuple(sorted({*references, fhir_user, *roles})),
            treated=_treatment(treated, opened, said),
            opened=(Part(opened),) if opened else (),
            needed=frozenset(id_ for id_ in opened if id_ not in treated or _denies(said.get(id_, ()))),
            withheld=_grouped(
                {id_: kept for id_, kept in said.items() if id_ not in opened and _denies(kept)}, related=True
            ),
            practitioner=(fhir_user,),
            roles=tuple(sorted(roles)),
            organizations=organizations,
        )

    # --- family -------------------------------------------------------------------------------------------------------

    def _links(self, person: str | None, fhir_user: str | None) -> list[Link]:
        """The Patient that somebody is, and the patients of those RelatedPersons of theirs that are in force."""
        found: dict[str, Link] = {}
        if person is None:
            return [Link(fhir_user[8:], "self")] if fhir_user is not None and fhir_user.startswith("Patient/") else []
        resource = self._read([person]).get(person)
        if resource is None or resource.get("active") is False:
            return []
        targets = [self._ref(one.get("target")) for one in resource.get("link") or ()]
        for target in targets:
            if target.startswith("Patient/"):
                found.setdefault(target, Link(target[8:], "self"))
        now_us = self._server.clock()
        related = self._read([one for one in targets if one.startswith("RelatedPerson/")])
        for address, one in related.items():
            start, end = self._agreements.reader.period(one.get("period"))
            patient = self._ref(one.get("patient"))
            if one.get("active") is False or not start <= now_us < end or not patient.startswith("Patient/"):
                continue
            codes = [
                coding.get("code", "") for kind in one.get("relationship") or () for coding in kind.get("coding") or ()
            ]
            found.setdefault(patient, Link(patient[8:], codes[0] if codes else "", address))
        return list(found.values())

    @staticmethod
    def _self(person: str | None, fhir_user: str | None, links: list[Link]) -> frozenset[str]:
        """The references that mean this person."""
        own = {f"Patient/{link.patient}" for link in links if link.relation == "self"}
        acting = {link.related_person for link in links if link.related_person is not None}
        given = {one for one in (person, fhir_user) if one is not None and not one.startswith("Patient/")}
        return frozenset(own | acting | given)

    def _family(self, links: list[Link], references: frozenset[str], now_us: int) -> tuple[Circle, Circle]:
        """(%own, %patients). Of an adult only what her or his Consent permits; of minors all but what one denies, from
        fourteen on without what is labelled sensitive."""
        own = frozenset(link.patient for link in links if link.relation == "self")
        wards = [link.patient for link in links if link.relation != "self" and link.patient not in own]
        first: Circle = (Part(own),) if own else ()
        if not wards:
            return first, first
        self._agreements.refresh()
        said = by_patient(self._agreements, references, now_us, named_only=True)
        patients = self._read([f"Patient/{id_}" for id_ in wards])
        kept: dict[tuple[bool, tuple[Layers, ...], bool], set[str]] = {}
        for id_ in wards:
            patient = patients.get(f"Patient/{id_}")
            if patient is None:
                continue
            age = self._age(patient.get("birthDate"), now_us)
            situation = (age < ADULT_YEARS, said.get(id_, ()), age >= DISCREET_YEARS)
            kept.setdefault(situation, set()).add(id_)
        parts = (Part(frozenset(ids), *situation) for situation, ids in kept.items())
        return first, (*first, *(part for part in parts if not _empty(part)))

    def _age(self, birth_date: Any, now_us: int) -> int:
        """Years of age in the server's zone. Of a date that is not whole the oldest that it may mean; without one an
        adult."""
        try:
            year, month, day = (int(part) for part in (str(birth_date) + "-01-01").split("-")[:3])
        except ValueError:
            return ADULT_YEARS
        today = datetime.fromtimestamp(now_us / 1e6, self._server.extractor.settings.calendar.zone).date()
        return today.year - year - ((today.month, today.day) < (month, day))

    # --- treatment ----------------------------------------------------------------------------------------------------

    def _roles(self, practitioner: str, now_us: int) -> dict[str, JSON]:
        """The PractitionerRoles of a practitioner that are in force, by address."""
        node = self._node("PractitionerRole", practitioner=practitioner)
        page = self._server.store.search(ast.Search(ast.Select(("PractitionerRole",), node), count=100))
        found = {}
        for stored in page.matches:
            assert stored.body is not None
            role = jsonformat.parse(inflate(stored.body))
            start, end = self._agreements.reader.period(role.get("period"))
            if role.get("active") is not False and start <= now_us < end:
                found[stored.address] = role
        return found

    def _treated(self, refs: tuple[str, ...], now_us: int) -> frozenset[str]:
        """Patients of encounters, appointments and care teams in which one of `refs` takes part, and of whom one is the
        general practitioner. One question to the store, which does not look into any resource."""
        who, now, past = ",".join(refs), instant(now_us), instant(now_us - self._treatment_us)
        registry = self._server.registry

        def about(resource_type: str, code: str, *nodes: ast.Node) -> ast.Node:
            param = registry.param(resource_type, code)
            assert param is not None
            where = ast.Or(nodes) if len(nodes) > 1 else nodes[0]
            return ast.LinkedFrom(param.numbers, ast.Select((resource_type,), where))

        where = ast.Or(
            (
                self._node("Patient", general_practitioner=who),
                about(
                    "Encounter",
                    "patient",
                    self._node("Encounter", participant=who, status=OPEN_ENCOUNTERS),
                    self._node("Encounter", participant=who, status="finished", date=f"ge{past}"),
                ),
                about(
                    "Appointment",
                    "patient",
                    self._node("Appointment", actor=who, status=LIVE_APPOINTMENTS, date=f"ge{past}"),
                    # One that is only asked for has no time yet.
                    self._node("Appointment", actor=who, status="proposed,pending", date__missing="true"),
                ),
                about(
                    "CareTeam",
                    "patient",
                    self._node("CareTeam", participant=who, status="active", date__missing="true"),
                    ast.And(
                        (
                            self._node("CareTeam", participant=who, status="active", date=f"ge{now}"),
                            self._node("CareTeam", date=f"le{now}"),
                        )
                    ),
                ),
            )
        )
        found: set[str] = set()
        search = ast.Search(ast.Select(("Patient",), where), count=_PAGE)
        while len(found) < MAX_TREATED:
            page = self._server.store.search(search)
            found.update(stored.id for stored in page.matches)
            if page.next is None:
                break
            search = replace(search, after=page.next)
        return frozenset(found)

    def _node(self, resource_type: str, **criteria: str) -> ast.Node:
        """The predicate of a search; ``_`` in names stands for ``-``, ``__`` for the colon of a modifier."""
        pairs = [(name.replace("__", ":").replace("_", "-"), value) for name, value in criteria.items()]
        context = resolver(self._server.registry, self._server.extractor.settings)
        return context.resolve(pairs, types=(resource_type,), handling="strict").search.select.where

    # --- resources ----------------------------------------------------------------------------------------------------

    def _ref(self, reference: Any) -> str:
        return self._agreements.reader.reference((reference or {}).get("reference"))

    def _read(self, addresses: Sequence[str | None]) -> dict[str, JSON]:
        """Current resources by address, in the order asked; what is absent or deleted is left out."""
        wanted = []
        for address in addresses:
            type_, _, id_ = (address or "").partition("/")
            if type_ in TYPE_SET and is_id(id_):
                wanted.append(f"{type_}/{id_}")
        if not wanted:
            return {}
        found = self._server.store.read_many(list(dict.fromkeys(wanted)))
        return {
            address: jsonformat.parse(inflate(stored.body))
            for address in wanted
            if (stored := found.get(address)) is not None and stored.body is not None
        }


def _treatment(treated: frozenset[str], opened: frozenset[str], said: dict[str, tuple[Layers, ...]]) -> Circle:
    """%treated: whoever is treated or whose record was opened at need, and what Consents add and take away."""
    spoken = said.keys() - opened
    plain = (treated | opened) - spoken
    parts: list[Part] = [Part(plain)] if plain else []
    parts += _grouped({id_: said[id_] for id_ in spoken & treated}, related=True)
    parts += _grouped({id_: said[id_] for id_ in spoken - treated}, related=False)
    return tuple(part for part in parts if not _empty(part))


def _grouped(said: dict[str, tuple[Layers, ...]], *, related: bool) -> Circle:
    """One Part for all patients whose Consents say the same."""
    kept: dict[tuple[Layers, ...], set[str]] = {}
    for id_, agreements in said.items():
        kept.setdefault(agreements, set()).add(id_)
    return tuple(
        Part(frozenset(ids), related, agreements)
        for agreements, ids in sorted(kept.items(), key=lambda one: repr(one[0]))
    )


def _denies(agreements: tuple[Layers, ...]) -> bool:
    return any(layer.effect == "deny" for layers in agreements for layer in layers)


def _empty(part: Part) -> bool:
    """Whether nothing of these patients can be seen: no relation and no permission, or a denial of everything last."""
    permitted = part.related or any(
        layer.effect == "permit" and layer.named for layers in part.agreements for layer in layers
    )
    everything_denied = any(
        layers[-1].effect == "deny" and not layers[-1].restrictions for layers in part.agreements if layers
    )
    return not permitted or everything_denied


def relations_of(server: Server) -> Relations:
    """The Relations of a server, made at first use."""
    found: Relations | None = server.cache.get("relations")
    if found is None:
        found = server.cache["relations"] = Relations(server)
    return found
