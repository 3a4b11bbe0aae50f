"""Names of codes, and what a problem says, in the language of the page."""

from __future__ import annotations

import datetime
from typing import Final

from flask_babel import format_datetime, gettext
from flask_babel import lazy_gettext as N_
from flask_babel.speaklater import LazyString

from smart_auth.context import Visit
from smart_auth.problems import Locked, NotPossible, Problem, Throttled, UnusableValue, WeakPassword

_ROLES: Final[dict[str, LazyString]] = {
    "patient": N_("Patient"),
    "doctor": N_("Doctor"),
    "pharmacist": N_("Pharmacist"),
    "nurse": N_("Nurse or front desk"),
    "laboratory": N_("Laboratory"),
    "administrator": N_("Administrator"),
    "system": N_("Back-end service"),
}
_RELATIONS: Final[dict[str, LazyString]] = {
    "self": N_("yourself"),
    "CHILD": N_("child"),
    "SON": N_("son"),
    "SONC": N_("son"),
    "DAU": N_("daughter"),
    "DAUC": N_("daughter"),
    "MTH": N_("you are the mother"),
    "FTH": N_("you are the father"),
    "PRN": N_("you are a parent"),
    "GUARD": N_("you are the guardian"),
    "SPS": N_("husband or wife"),
    "HUSB": N_("husband or wife"),
    "WIFE": N_("husband or wife"),
    "GRPRN": N_("you are a grandparent"),
    "SIB": N_("sister or brother"),
}
_GENDERS: Final[dict[str, LazyString]] = {
    "female": N_("female"),
    "male": N_("male"),
    "other": N_("other sex"),
    "unknown": N_("sex unknown"),
}
_STATUS: Final[dict[str, LazyString]] = {
    "active": N_("active"),
    "locked": N_("locked"),
    "closed": N_("closed"),
    "pending": N_("waiting for approval"),
    "disabled": N_("disabled"),
    "next": N_("next"),
    "retired": N_("retired"),
}
_VISITS: Final[dict[str, LazyString]] = {
    "AMB": N_("Outpatient visit"),
    "EMER": N_("Emergency visit"),
    "FLD": N_("Visit in the field"),
    "HH": N_("Home visit"),
    "IMP": N_("Hospital stay"),
    "ACUTE": N_("Hospital stay"),
    "NONAC": N_("Hospital stay"),
    "OBSENC": N_("Observation"),
    "PRENC": N_("Before admission"),
    "SS": N_("Short stay"),
    "VR": N_("Online visit"),
}
"""v3-ActEncounterCode."""
_ACTIONS: Final[dict[str, LazyString]] = {
    "c": N_("added"),
    "r": N_("read"),
    "u": N_("changed"),
    "d": N_("deleted"),
    "s": N_("searched"),
}


def role_name(role: str) -> str:
    """For example Doctor."""
    return str(_ROLES.get(role, role))


def relation_name(relation: str) -> str:
    """How a person is related to the patient; v3-RoleCode."""
    return str(_RELATIONS.get(relation, N_("family")))


def gender_name(gender: str) -> str:
    """FHIR administrative-gender."""
    return str(_GENDERS.get(gender, ""))


def status_name(status: str) -> str:
    """Status of an account, a client or a key."""
    return str(_STATUS.get(status, status))


def visit_name(visit: Visit) -> str:
    """For example Outpatient visit."""
    return str(_VISITS.get(visit.code, "") or visit.kind or N_("Visit"))


def visit_time(visit: Visit) -> str:
    """When it began; of one that lasted longer than a day, its days."""
    start, end = visit.start or "", visit.end or ""
    if start and end and start[:10] != end[:10]:
        return f"{start[:10]} – {end[:10]}"
    return start or end


def visit_place(visit: Visit) -> str:
    """Department and practitioner, as far as they are known."""
    return " · ".join(part for part in (visit.department, visit.practitioner) if part)


def action_name(letter: str) -> str:
    """What was done with a record."""
    return str(_ACTIONS.get(letter, letter))


def moment(at_s: int) -> str:
    """A moment in seconds since 1970, as a date and a time of the hospital's zone."""
    at = datetime.datetime.fromtimestamp(at_s, datetime.UTC)
    return str(format_datetime(at, "yyyy-MM-dd HH:mm"))


_SYSTEMS: Final = (
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("Linux", "Linux"),
)
_BROWSERS: Final = (
    ("MicroMessenger", "WeChat"),
    ("Edg/", "Edge"),
    ("OPR/", "Opera"),
    ("Firefox/", "Firefox"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
)


def device_name(user_agent: str) -> str:
    """A browser and a system as people call them; what they say of themselves, so a hint and no proof."""
    system = next((name for sign, name in _SYSTEMS if sign in user_agent), "")
    browser = next((name for sign, name in _BROWSERS if sign in user_agent), "")
    return " · ".join(part for part in (browser, system) if part) or gettext("Unknown device")


def say(problem: Problem) -> str:
    """What a person is told."""
    if isinstance(problem, (NotPossible, UnusableValue)):
        return gettext(problem.reason)
    if isinstance(problem, WeakPassword):
        return " ".join(gettext(reason) for reason in problem.reasons)
    if isinstance(problem, Throttled) and problem.retry_after_s > 120:
        minutes = -(-problem.retry_after_s // 60)
        return gettext("Too many attempts. Wait %(minutes)s minutes and try again.", minutes=minutes)
    if isinstance(problem, Locked) and problem.retry_after_s is None:
        return gettext("This account is locked. Please ask the hospital.")
    return gettext(problem.message, **problem.values)


def status_code(problem: Problem) -> int:
    """The status of the page that tells it."""
    return 429 if isinstance(problem, Throttled) else 400
