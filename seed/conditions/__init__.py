"""Courses of illness, one small state machine per condition; `COURSES` finds them by the name the cast uses."""

from __future__ import annotations

from typing import Final

from seed.conditions.airways import Asthma, Copd
from seed.conditions.cancer import BreastCancer, ColonCancer, LungCancer
from seed.conditions.cardiovascular import Hypertension, Lipids
from seed.conditions.childhood import Childhood
from seed.conditions.course import Course
from seed.conditions.everyday import Acute, Appendicitis, CheckUp
from seed.conditions.injury import Fracture
from seed.conditions.kidney import ChronicKidneyDisease
from seed.conditions.maintained import Anaemia, Insomnia, Knee, Osteoporosis, Prostate, Reflux, Rhinitis, Thyroid
from seed.conditions.metabolic import Diabetes, Gout
from seed.conditions.mind import Depression
from seed.conditions.pregnancy import Pregnancy

COURSES: Final[dict[str, type[Course]]] = {
    "acute": Acute,
    "anaemia": Anaemia,
    "appendicitis": Appendicitis,
    "asthma": Asthma,
    "breast-cancer": BreastCancer,
    "check-up": CheckUp,
    "child": Childhood,
    "ckd": ChronicKidneyDisease,
    "colon-cancer": ColonCancer,
    "copd": Copd,
    "depression": Depression,
    "diabetes": Diabetes,
    "fracture": Fracture,
    "gout": Gout,
    "hypertension": Hypertension,
    "insomnia": Insomnia,
    "knee": Knee,
    "lipids": Lipids,
    "lung-cancer": LungCancer,
    "osteoporosis": Osteoporosis,
    "pregnancy": Pregnancy,
    "prostate": Prostate,
    "reflux": Reflux,
    "rhinitis": Rhinitis,
    "thyroid": Thyroid,
}
