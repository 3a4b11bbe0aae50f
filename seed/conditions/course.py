"""What every course of illness is: named states, how long each lasts, where it may lead."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import ClassVar

from seed.base import stream
from seed.chart import Chart
from seed.visit import Visit


@dataclass(frozen=True, slots=True)
class State:
    """A state: `gap` days until the visit of the next one, `next` its alternatives with weights; none ends the course.

    `kind` is the Encounter class of the visit that the state is about; `days` how long an admission lasts.
    """

    gap: tuple[int, int] = (0, 0)
    next: tuple[tuple[str, float], ...] = ()
    kind: str = "AMB"
    days: int = 0


class Course:
    """A state machine for one patient. Subclasses give STATES and a method `on_<state>` (dashes as underscores) each.

    The method writes what happens at the visit and may return the name of the next state; otherwise the weights decide.
    """

    STATES: ClassVar[dict[str, State]]
    department: ClassVar[str]
    state: str

    def __init__(self, chart: Chart, argument: str) -> None:
        self.chart, self.body, self.person, self.argument = chart, chart.body, chart.person, argument
        self.rng = stream(chart.world.seed, type(self).__name__, chart.person.number)
        self.state = next(iter(self.STATES))

    def begins(self) -> datetime.date | None:
        """The day of the first visit; None when the course never begins. By default soon after the first contact."""
        return self.person.since + datetime.timedelta(days=self.rng.randint(5, 160))

    @property
    def now(self) -> State:
        """The state the next visit is about."""
        return self.STATES[self.state]

    @property
    def mergeable(self) -> bool:
        """Whether the visit can be had together with another's: an ordinary clinic visit."""
        return self.now.kind == "AMB"

    def step(self, visit: Visit) -> datetime.date | None:
        """Does the state's work at the visit and moves on; the day of the next visit, or None at the end."""
        here = self.now
        chosen = getattr(self, "on_" + self.state.replace("-", "_"))(visit)
        if chosen is None:
            if not here.next:
                return None
            names, weights = zip(*here.next, strict=True)
            chosen = self.rng.choices(names, weights)[0]
        self.state = chosen
        return visit.end.date() + datetime.timedelta(days=self.rng.randint(*here.gap))

    def chance(self, probability: float) -> bool:
        """True with that probability."""
        return self.rng.random() < probability
