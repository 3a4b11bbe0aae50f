"""Runs a patient's courses of illness from the first contact to today, visit after visit."""

from __future__ import annotations

import datetime
import heapq
from dataclasses import dataclass

from seed.base import at
from seed.chart import Chart, World
from seed.conditions import COURSES
from seed.conditions.course import Course
from seed.patients import Person
from seed.rota import Place
from seed.staff import Post
from seed.visit import Visit

#: Clinic visits that fall within so many days of each other are made in one.
_TOGETHER_DAYS = 28


@dataclass(slots=True)
class Upcoming:
    """A visit that is due after today."""

    day: datetime.date
    course: Course


class Life:
    """One patient's simulation; `run` fills the chart and leaves what is due later in `upcoming`."""

    def __init__(self, person: Person, world: World) -> None:
        self.person, self.world = person, world
        self.chart = Chart.open(person, world)
        self.upcoming: list[Upcoming] = []
        self.courses: list[Course] = []
        for name in person.part.courses:
            key, _, argument = name.partition(":")
            self.courses.append(COURSES[key](self.chart, argument))
        chronic = any(key in person.part.courses for key in ("hypertension", "diabetes", "copd", "ckd"))
        if 25 <= person.age(world.today) < 85 and not chronic and person.died is None:
            self.courses.append(COURSES["check-up"](self.chart, ""))

    def run(self) -> Chart:
        """Simulates until today or death."""
        queue: list[tuple[datetime.date, int, Course]] = []
        for index, course in enumerate(self.courses):
            if day := course.begins():
                heapq.heappush(queue, (day, index, course))
        while queue:
            day, index, course = heapq.heappop(queue)
            if day >= self.chart.end:
                if self.person.died is None:
                    self.upcoming.append(Upcoming(day, course))
                continue
            visit = self._open(course, day)
            if visit is None:
                if self.person.died is None and (self.world.today - day).days < 25:
                    self.upcoming.append(Upcoming(self.world.today, course))
                else:
                    heapq.heappush(queue, (day + datetime.timedelta(days=7), index, course))
                continue
            together = [(index, course)] + (self._join(queue, course, visit) if course.mergeable else [])
            visit.first = course.state == next(iter(course.STATES))
            for number, item in together:
                following = item.step(visit)
                if following is not None:
                    heapq.heappush(queue, (max(following, visit.day), number, item))
            visit.close()
        return self.chart

    def _join(
        self, queue: list[tuple[datetime.date, int, Course]], course: Course, visit: Visit
    ) -> list[tuple[int, Course]]:
        limit = visit.day + datetime.timedelta(days=_TOGETHER_DAYS)
        fresh = next(iter(course.STATES)) == course.state
        joined = [
            item
            for item in queue
            if item[0] <= limit
            and item[2].mergeable
            and not fresh
            and item[2].state != next(iter(item[2].STATES))
            and item[2].department not in ("oncology", "psychiatry", "surgery", "orthopaedics", "tcm")
        ]
        for item in joined:
            queue.remove(item)
        heapq.heapify(queue)
        return [(item[1], item[2]) for item in sorted(joined, key=lambda item: item[1])]

    # --- where and when -------------------------------------------------------------------------------------------

    def _open(self, course: Course, day: datetime.date) -> Visit | None:
        kind = course.now.kind
        if kind == "IMP":
            return self._admit(course, day)
        if kind == "EMER":
            return self._emergency(day)
        mode = "online" if kind == "VR" else "clinic"
        place = self._place(course.department, day, mode)
        if place is None and mode == "online":
            kind, place = "AMB", self._place(course.department, day, "clinic")
        if place is None:
            return None
        self.chart.taken.add(place.date)
        return Visit(self.chart, kind, place.post, place.start, place.end, place)

    def _place(self, department: str, day: datetime.date, mode: str) -> Place | None:
        if department == "paediatrics" and self.person.age(day) >= 15:
            department = "general"
        choice = self.world.rota.doctors(department, mode)
        usual = self.chart.doctor(department)
        ordered = sorted(choice, key=lambda post: post.role != usual.role)
        for post in ordered:
            recorded = (self.world.today - day).days <= 210
            place = self.world.rota.past(post, day, mode, self.chart.taken, recorded, self.chart.end)
            if place is not None:
                return place
        return None

    def _emergency(self, day: datetime.date) -> Visit | None:
        while day in self.chart.taken:
            day += datetime.timedelta(days=1)
        if day >= self.chart.end:
            return None
        post = self.chart.rng.choice(self.world.duty("emergency"))
        start = at(day, self.chart.rng.randint(9, 18), self.chart.rng.randint(0, 59))
        self.chart.taken.add(day)
        return Visit(
            self.chart, "EMER", post, start, start + datetime.timedelta(minutes=self.chart.rng.randint(45, 170))
        )

    def _admit(self, course: Course, day: datetime.date) -> Visit | None:
        post = self._ward_doctor(course, day)
        start = at(day, 22, 40) if day in self.chart.taken else at(day, 14, 20)
        end = at(day + datetime.timedelta(days=course.now.days), 10, 0)
        if self.person.died and course.state == "last":
            end = at(self.person.died, 4, 20)
        if end.date() >= self.world.today or end.date() > self.chart.end:
            return None
        for offset in range((end.date() - day).days + 1):
            self.chart.taken.add(day + datetime.timedelta(days=offset))
        return Visit(self.chart, "IMP", post, start, end)

    def _ward_doctor(self, course: Course, day: datetime.date) -> Post:
        if course.department == "paediatrics" and self.person.age(day) >= 15:
            return self.chart.doctor("general")
        return self.chart.doctor(course.department)
