"""Schedules, places and who took them. Kernel K6: one Slot per bookable place.

The rota of the coming fortnight is complete. Of earlier rotas only the places that were taken are kept, as a hospital
that clears its calendar at night does; they hang on a closed Schedule of the same post and service.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from seed.base import JSON, at, extension, identifier, reference, resource, sid, stamp, structure
from seed.staff import Post, Session
from seed.terminology.local import local_concept

FORTNIGHT: Final = 14


@dataclass(slots=True)
class Place:
    """One place in a clinic hour; `start` and `end` are the patient's own minutes within it."""

    post: Post
    mode: str
    date: datetime.date
    hour: int
    sequence: int
    slot: JSON | None = None

    @property
    def minutes(self) -> int:
        """Length of the patient's turn."""
        return 60 // self.post.places(self.mode)

    @property
    def start(self) -> datetime.datetime:
        """When the patient's turn begins."""
        return at(self.date, self.hour, (self.sequence - 1) * self.minutes)

    @property
    def end(self) -> datetime.datetime:
        """When it ends."""
        return self.start + datetime.timedelta(minutes=self.minutes)

    @property
    def service(self) -> str:
        """The HealthcareService that is booked."""
        prefix = "svc-online-" if self.mode == "online" else "svc-"
        return f"HealthcareService/{prefix}{self.post.department.key}"


@dataclass(slots=True)
class Rota:
    """Hands out places so that no doctor and no room has two patients at once."""

    posts: list[Post]
    today: datetime.date
    _used: dict[tuple[str, datetime.date, int], int] = field(default_factory=dict)
    _coming: dict[tuple[str, str], list[Place]] = field(default_factory=dict)
    _past: dict[tuple[str, str], list[Place]] = field(default_factory=dict)
    _absences: dict[str, datetime.date] = field(default_factory=dict)

    def __post_init__(self) -> None:
        away = [post for post in self.posts if post.sessions and post.staff_no in ("10007", "10014")]
        for post in away:
            for offset in range(7, FORTNIGHT):
                day = self.today + datetime.timedelta(days=offset)
                if any(item.weekday == day.weekday() for item in post.sessions):
                    self._absences[post.role] = day
                    break
        for post in self.posts:
            for offset in range(FORTNIGHT):
                day = self.today + datetime.timedelta(days=offset)
                for session in post.sessions:
                    if session.weekday == day.weekday():
                        self._open(post, session, day)

    @property
    def absences(self) -> dict[str, datetime.date]:
        """Role to the day of the coming fortnight on which its clinics are cancelled (停诊)."""
        return self._absences

    def _open(self, post: Post, session: Session, day: datetime.date) -> None:
        status = "busy-unavailable" if self._absences.get(post.role) == day else "free"
        places = self._coming.setdefault((post.role, session.mode), [])
        for sequence in range(1, post.places(session.mode) + 1):
            place = Place(post, session.mode, day, session.hour, sequence)
            place.slot = self._slot(place, schedule_id(post, session.mode), status)
            places.append(place)

    def _slot(self, place: Place, schedule: str, status: str) -> JSON:
        number = f"{schedule}-{place.date:%Y%m%d}-{place.hour:02d}00-{place.sequence}"
        kind = "online" if place.mode == "online" else "general-clinic"
        if place.mode == "clinic" and place.post.title in ("chief", "associate-chief"):
            kind = "expert-clinic"
        return resource(
            "Slot",
            f"slot-{number}",
            identifier=[
                identifier(sid("slot-no"), number),
                identifier(sid("queue-no"), str(place.sequence), text="就诊序号"),
            ],
            serviceType=[local_concept("service-kind", kind)],
            specialty=[place.post.department.specialty_concept()],
            schedule=reference(f"Schedule/{schedule}"),
            status=status,
            start=stamp(at(place.date, place.hour)),
            end=stamp(at(place.date, place.hour + 1)),
        )

    def doctors(self, department: str, mode: str = "clinic") -> list[Post]:
        """The posts of a department that hold such clinics."""
        return [
            post
            for post in self.posts
            if post.department.key == department and any(item.mode == mode for item in post.sessions)
        ]

    def past(
        self,
        post: Post,
        near: datetime.date,
        mode: str,
        taken: set[datetime.date],
        recorded: bool,
        before: datetime.date,
        keep: bool = True,
    ) -> Place | None:
        """The first free place from `near` on, within three weeks and before a day; None when there is none.

        `taken` are days the patient is busy. `recorded` keeps the place as a Slot; without `keep` the place
        stays free for the next one.
        """
        for offset in range(21):
            day = near + datetime.timedelta(days=offset)
            if day >= before:
                return None
            if day in taken:
                continue
            for session in post.sessions:
                if session.mode != mode or session.weekday != day.weekday():
                    continue
                key = (post.role, day, session.hour)
                used = self._used.get(key, 0)
                if used >= post.places(mode):
                    continue
                if keep:
                    self._used[key] = used + 1
                place = Place(post, mode, day, session.hour, used + 1)
                if recorded:
                    place.slot = self._slot(place, schedule_id(post, mode) + "-past", "busy")
                    self._past.setdefault((post.role, mode), []).append(place)
                return place
        return None

    def book(
        self, post: Post, near: datetime.date, mode: str, taken: set[datetime.date], hold: bool = False
    ) -> Place | None:
        """Takes a free place of the coming fortnight from `near` on; `hold` until it is paid for."""
        for place in self._coming.get((post.role, mode), []):
            slot = place.slot
            if slot is None or slot["status"] != "free" or place.date < near or place.date in taken:
                continue
            slot["status"] = "busy-tentative" if hold else "busy"
            if hold:
                expires = stamp(at(self.today, 0, 30))
                slot["extension"] = [extension(structure("hold-expires"), valueInstant=expires)]
            return place
        return None

    def schedules(self) -> Iterator[JSON]:
        """A Schedule per post and service: the coming rota, and a closed one for what is past."""
        by_role = {post.role: post for post in self.posts}
        for (role, mode), places in self._coming.items():
            post = by_role[role]
            end = self.today + datetime.timedelta(days=FORTNIGHT)
            yield self._schedule(post, places[0], schedule_id(post, mode), (self.today, end), True)
        for (role, mode), places in self._past.items():
            post = by_role[role]
            horizon = (min(place.date for place in places), self.today)
            yield self._schedule(post, places[0], schedule_id(post, mode) + "-past", horizon, False)

    def _schedule(
        self, post: Post, place: Place, name: str, horizon: tuple[datetime.date, datetime.date], active: bool
    ) -> JSON:
        actors = [reference(post.role, post.label), reference(place.service)]
        if place.mode == "clinic":
            actors.append(reference(post.room))
        return resource(
            "Schedule",
            name,
            identifier=[identifier(sid("schedule-no"), name)],
            active=active,
            specialty=[post.department.specialty_concept()],
            actor=actors,
            planningHorizon={"start": stamp(at(horizon[0], 0)), "end": stamp(at(horizon[1], 0))},
            comment=f"{post.department.zh}{'线上问诊' if place.mode == 'online' else '门诊'}排班",
        )

    def slots(self) -> Iterator[JSON]:
        """All places, by schedule."""
        for table in (self._coming, self._past):
            for places in table.values():
                yield from (place.slot for place in places if place.slot is not None)


def schedule_id(post: Post, mode: str) -> str:
    """Id of the Schedule of a post's clinics of one mode."""
    return f"rota-{post.staff_no}-{post.department.key}{'-online' if mode == 'online' else ''}"
