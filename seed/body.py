"""What can be measured on a person, and how it moves: illness pushes a value off, treatment pulls it back.

Values here are floats of the simulation; `Body.sample` turns one into the Decimal that a report shows.
"""

from __future__ import annotations

import datetime
import math
import random
from collections.abc import Callable
from decimal import Decimal
from typing import Final

from seed import growth
from seed.base import age_in_months, decimal
from seed.patients import Person
from seed.terminology.laboratory import LABORATORY

#: Lowest and highest that a report of a living person may show.
_LIMITS: Final = {
    "hba1c": (4.2, 13.0),
    "glucose": (3.6, 20.0),
    "k": (3.1, 5.8),
    "hgb": (65.0, 185.0),
    "tsh": (0.05, 60.0),
    "urate": (120.0, 720.0),
}


class Body:
    """The state of one person; attributes are the usual values, in the units of the measures."""

    def __init__(self, person: Person, rng: random.Random) -> None:
        self.person = person
        self.rng = rng
        male = person.sex == "male"
        # Generations born in poorer times are shorter.
        older = max(0, (1985 - person.birth.year) / 25)
        self.height_z = rng.gauss(-0.35 - 0.5 * older, 0.7)
        self.weight_z = rng.gauss(0.1, 0.8)
        self.bmi = min(30.0, max(18.8, rng.gauss(23.6, 2.2)))
        years = person.birth.year
        if years >= 2003:
            # Who grows up during the record keeps the build of the growth chart.
            grown = growth.height(216, person.sex, self.height_z) / 100
            self.bmi = min(27.0, max(17.5, growth.weight(215.9, person.sex, self.weight_z) / grown**2))
        self.systolic = 112 + max(0, 2000 - years) * 0.22 + rng.gauss(0, 4)
        self.diastolic = 70 + max(0, 2000 - years) * 0.08 + rng.gauss(0, 3)
        self.heart_rate = rng.gauss(73, 4)
        self.spo2 = 98.3
        self.fever = 0.0
        self.infection = 0.0
        self.fev1_share = rng.gauss(0.97, 0.04)  # of the predicted volume
        self.fev1_fvc = rng.gauss(80, 2)
        self.pregnant_since: datetime.date | None = None
        self.lab: dict[str, float] = {
            "wbc": rng.gauss(6.0, 0.7),
            "hgb": rng.gauss(151 if male else 130, 5),
            "plt": rng.gauss(225, 28),
            "tg": max(0.6, rng.gauss(1.2, 0.25)),
            "hdl": rng.gauss(1.28 if male else 1.45, 0.1),
            "ldl": rng.gauss(2.6, 0.3),
            "crea": rng.gauss(76 if male else 58, 5),
            "urea": rng.gauss(5.2, 0.6),
            "urate": rng.gauss(345 if male else 265, 25),
            "k": rng.gauss(4.2, 0.15),
            "acr": rng.uniform(5, 14),
            "hba1c": rng.gauss(5.3, 0.15),
            "alt": rng.gauss(20, 4),
            "ast": rng.gauss(22, 3),
            "tbil": rng.gauss(12, 2),
            "alb": rng.gauss(45, 1.2),
            "tsh": max(0.9, rng.gauss(2.0, 0.4)),
            "ft4": rng.gauss(16.5, 1),
            "crp": rng.uniform(0.6, 3),
            "cea": rng.uniform(1, 2.6),
            "ca153": rng.uniform(8, 15),
            "ferritin": rng.gauss(130 if male else 60, 12),
        }
        self._derived: dict[str, Callable[[datetime.date], float]] = {
            "neutrophils": lambda _: self.lab["wbc"] * (0.58 + 0.2 * self.infection) * (1 + self.infection),
            "glucose": lambda _: self.lab["hba1c"] * 1.3 - 1.8,
        }
        self._tallest = 0.0

    def toward(self, key: str, target: float, share: float) -> None:
        """Moves a laboratory value that share of the way to `target`."""
        self.lab[key] += (target - self.lab[key]) * share

    # --- the body's own measures ----------------------------------------------------------------------------------

    def height(self, day: datetime.date) -> Decimal:
        """cm; children grow along their percentile and nobody shrinks."""
        months = age_in_months(self.person.birth, day)
        value = growth.height(months, self.person.sex, self.height_z)
        self._tallest = max(self._tallest, value)
        return decimal(self._tallest, 1)

    def weight(self, day: datetime.date) -> Decimal:
        """kg; pregnancy adds up to 12 kg."""
        months = age_in_months(self.person.birth, day)
        if months < 216:
            value = growth.weight(months, self.person.sex, self.weight_z)
            return decimal(value * (1 + self.rng.gauss(0, 0.008)), 1)
        value = self.bmi * (float(self.height(day)) / 100) ** 2
        if self.pregnant_since:
            value += 12 * min(1.0, max(0.0, ((day - self.pregnant_since).days / 7 - 10) / 30))
        return decimal(value + self.rng.gauss(0, 0.5), 1)

    def head(self, day: datetime.date) -> Decimal:
        """cm, of children under three."""
        return decimal(growth.head(age_in_months(self.person.birth, day), self.person.sex, self.height_z * 0.5), 1)

    def blood_pressure(self, day: datetime.date) -> tuple[int, int]:
        """Systolic and diastolic, mmHg."""
        years = self.person.age(day)
        systolic, diastolic = self.systolic, self.diastolic
        if years < 18:
            systolic, diastolic = 88 + years * 1.6, 54 + years * 0.9
        high = round(systolic + self.rng.gauss(0, 4))
        low = round(min(diastolic + self.rng.gauss(0, 3), high - 22))
        return high, max(45, low)

    def pulse(self, day: datetime.date) -> int:
        """Beats a minute, faster in the young and with fever."""
        years = self.person.age(day)
        base = self.heart_rate if years >= 14 else 128 - years * 4.2 if years < 10 else 86
        return round(base + 9 * self.fever + self.rng.gauss(0, 3))

    def breaths(self, day: datetime.date) -> int:
        """Breaths a minute."""
        years = self.person.age(day)
        base = 17 if years >= 12 else 36 - years * 1.6 if years else 38
        return round(base + 1.5 * self.fever + max(0.0, (96 - self.spo2) * 0.7) + self.rng.uniform(-1, 1))

    def temperature(self) -> Decimal:
        """Degrees Celsius."""
        return decimal(36.5 + self.fever + self.rng.gauss(0, 0.15), 1)

    def saturation(self) -> int:
        """Per cent."""
        return min(100, round(self.spo2 + self.rng.gauss(0, 0.7)))

    def spirometry(self, day: datetime.date) -> dict[str, Decimal]:
        """FEV1 (L), FVC (L), FEV1/FVC (%), and peak flow (L/min), consistent with each other."""
        years, height = self.person.age(day), float(self.height(day))
        if self.person.sex == "male":
            predicted = max(0.8, 0.043 * height - 0.029 * max(years, 20) - 2.9)
        else:
            predicted = max(0.8, 0.0395 * height - 0.025 * max(years, 20) - 2.9)
        fev1 = decimal(predicted * self.fev1_share * (1 + self.rng.gauss(0, 0.02)), 2)
        fvc = decimal(float(fev1) / (self.fev1_fvc / 100), 2)
        return {
            "fev1": fev1,
            "fvc": fvc,
            "fev1-fvc": decimal(fev1 / fvc * 100, 1),
            "pef": decimal(float(fev1) * 118, 0),
        }

    # --- the laboratory -------------------------------------------------------------------------------------------

    def egfr(self, creatinine: float, day: datetime.date) -> float:
        """CKD-EPI 2009 from serum creatinine in umol/L, mL/min/1.73 m2."""
        female = self.person.sex == "female"
        kappa, alpha = (0.7, -0.329) if female else (0.9, -0.411)
        ratio = creatinine / 88.4 / kappa
        value = 141 * min(ratio, 1) ** alpha * max(ratio, 1) ** -1.209 * 0.993 ** self.person.age(day)
        return value * (1.018 if female else 1)

    def sample(self, keys: tuple[str, ...], day: datetime.date) -> dict[str, Decimal]:
        """Quantities of one sample for those keys that are numbers."""
        out: dict[str, Decimal] = {}
        raw: dict[str, float] = {}
        for key in keys:
            measure = LABORATORY[key]
            if not measure.unit:
                continue
            if key == "egfr":
                value = self.egfr(raw.get("crea", self.lab["crea"]), day)
            elif key == "chol":
                value = 0.0  # filled below from its fractions
            elif key in self._derived:
                value = self._derived[key](day)
            else:
                value = self.lab[key]
            if key == "wbc":
                value *= 1 + 0.8 * self.infection
            elif key == "crp":
                value += 45 * self.infection
            noise = 0.0 if key == "egfr" else measure.spread
            value *= math.exp(self.rng.gauss(0, noise)) if noise else 1
            low, high = _LIMITS.get(key, (0.0, 1e9))
            raw[key] = min(high, max(low, value))
            out[key] = decimal(raw[key], measure.places)
        if "chol" in out:
            out["chol"] = out["ldl"] + out["hdl"] + decimal(raw["tg"] / 2.2, 2)
        if "neutrophils" in out:
            out["neutrophils"] = min(out["neutrophils"], decimal(raw["wbc"] * 0.92, 2))
        return out
