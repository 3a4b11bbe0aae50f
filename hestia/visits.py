"""The visits of one patient that somebody may see, as a person would recognize them: what an app is launched for.

Everything is read with the policy of the one who asks: the Encounters, and whatever they refer to by name.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from fhir_server.errors import Forbidden
from fhir_server.gzipped import inflate
from fhir_server.repository import Repository
from fhir_server.resources import jsonformat
from fhir_server.resources.references import literal
from fhir_server.resources.types import is_id
from fhir_server.storage.writes import Stored
from hestia.names import name_of
from smart_auth.context import CURRENT, Visit

JSON = dict[str, Any]

LOOKED_AT: Final = 200
"""Visits that are put in order by their begin: the index orders them by their end, which not every one has."""
OFFERED: Final = ("planned", "arrived", "triaged", "in-progress", "onleave", "finished", "unknown")
"""EncounterStatus, but cancelled and entered-in-error."""

_INCLUDED: Final = (
    ("_include", "Encounter:service-provider"),
    ("_include", "Encounter:participant"),
    ("_include", "Encounter:reason-reference"),
    ("_include:iterate", "PractitionerRole:practitioner"),
)
_RESPONSIBLE: Final = ("ATND", "PPRF")
"""v3-ParticipationType: attender, primary performer."""
_MAX_TEXT: Final = 120
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NEVER: Final = -(1 << 62)


class Visits:
    """Reads visits through a Repository with somebody's policy."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        settings = repository.server.extractor.settings
        self._calendar = settings.calendar
        self._bases = settings.base_urls

    def newest(self, patient: str, until: str | None, limit: int) -> list[Visit]:
        """Those that can be chosen: first the ones that go on now, then by their begin, the newest first.

        `until` is a day (yyyy-mm-dd) on which, or before which, they began.
        """
        pairs = [("status", ",".join(OFFERED)), ("_sort", "-date"), ("_count", str(LOOKED_AT))]
        if until is not None and until < "9999-12-31":
            # `le` of a day would leave out what began on it and has no end. R4 search.html#prefix.
            pairs.append(("date", f"lt{date.fromisoformat(until) + timedelta(days=1)}"))
        found = self._search(patient, pairs)
        found.sort(key=lambda one: (one["status"] in CURRENT, self._begin(one)), reverse=True)
        return self._described(patient, found[:limit])

    def one(self, patient: str, encounter: str) -> Visit | None:
        """The visit of an Encounter id, whatever its status; None for another patient's, and one that is not seen."""
        if not is_id(encounter):
            return None
        found = self._described(patient, self._search(patient, [("_id", encounter)]))
        return found[0] if found else None

    def _search(self, patient: str, pairs: Iterable[tuple[str, str]]) -> list[JSON]:
        if not is_id(patient):
            return []
        return [_resource(stored) for stored in self._page([("patient", f"Patient/{patient}"), *pairs])[0]]

    def _page(self, pairs: list[tuple[str, str]]) -> tuple[list[Stored], list[Stored]]:
        """(matches, includes). Nothing for somebody who may not search for visits."""
        resolved = self._repository.resolve(pairs, types=("Encounter",), handling="strict")
        try:
            page = self._repository.search(resolved.search)
        except Forbidden:
            return [], []
        return page.matches, page.includes

    # --- in words -----------------------------------------------------------------------------------------------------

    def _described(self, patient: str, encounters: list[JSON]) -> list[Visit]:
        if not encounters:
            return []
        named = ("_id", ",".join(one["id"] for one in encounters))
        included = self._page([named, *_INCLUDED, ("_count", str(len(encounters)))])[1]
        known = {stored.address: _resource(stored) for stored in included}
        return [self._visit(patient, one, known) for one in encounters]

    def _visit(self, patient: str, encounter: JSON, known: dict[str, JSON]) -> Visit:
        class_, period = encounter.get("class") or {}, encounter.get("period") or {}
        provider = encounter.get("serviceProvider")
        return Visit(
            encounter=encounter["id"],
            patient=patient,
            status=encounter["status"],
            code=class_.get("code", ""),
            kind=_short(class_.get("display") or class_.get("code")) or "",
            start=self._local(period.get("start")),
            end=self._local(period.get("end")),
            department=_short(self._name(provider, known) or _text(encounter.get("serviceType"))),
            practitioner=_short(self._who(encounter, known)),
            reason=_short(self._reason(encounter, known)),
        )

    def _who(self, encounter: JSON, known: dict[str, JSON]) -> str | None:
        """The one who is responsible, else the first of the staff."""

        def responsible(participant: JSON) -> bool:
            return any(
                coding.get("code") in _RESPONSIBLE
                for type_ in participant.get("type") or ()
                for coding in type_.get("coding") or ()
            )

        for participant in sorted(encounter.get("participant") or (), key=responsible, reverse=True):
            individual = participant.get("individual") or {}
            if self._address(individual).startswith(("Practitioner/", "PractitionerRole/")):
                name = self._name(individual, known)
                if name is not None:
                    return name
        return None

    def _reason(self, encounter: JSON, known: dict[str, JSON]) -> str | None:
        for concept in encounter.get("reasonCode") or ():
            if (text := _text(concept)) is not None:
                return text
        for reference in encounter.get("reasonReference") or ():
            if (text := self._name(reference, known)) is not None:
                return text
        return None

    def _name(self, reference: JSON | None, known: dict[str, JSON]) -> str | None:
        """What a reference is called: as the resource says, if it may be seen, else as the reference itself does."""
        reference = reference or {}
        found = known.get(self._address(reference), {})
        if found.get("resourceType") == "PractitionerRole":
            return self._name(found.get("practitioner"), known) or reference.get("display")
        return (name_of(found) or _text(found.get("code")) if found else None) or reference.get("display")

    def _address(self, reference: JSON) -> str:
        target = literal(reference.get("reference") or "", self._bases)
        return "" if target is None else f"{target[0]}/{target[1]}"

    # --- when ---------------------------------------------------------------------------------------------------------

    def _begin(self, encounter: JSON) -> int:
        """Microseconds; of a visit without a period the least there is."""
        period = encounter.get("period") or {}
        try:
            return self._calendar.range(period.get("start") or period.get("end") or "")[0]
        except ValueError:
            return _NEVER

    def _local(self, moment: str | None) -> str | None:
        """A date as it is written, a time to the minute (2026-01-05 09:30): as the clock said that whoever wrote it
        saw, in the hospital's zone if it is written in UTC.
        """
        if moment is None or "T" not in moment:
            return moment
        if moment.endswith(("Z", "+00:00", "-00:00")):
            try:
                at = _EPOCH + timedelta(microseconds=self._calendar.range(moment)[0])
                return at.astimezone(self._calendar.zone).isoformat(" ", "minutes")[:16]
            except (ValueError, OverflowError):
                pass
        return moment[:16].replace("T", " ")


def _text(concept: JSON | None) -> str | None:
    """A CodeableConcept in words."""
    concept = concept or {}
    displays = (coding.get("display") for coding in concept.get("coding") or ())
    return concept.get("text") or next((one for one in displays if one), None)


def _short(text: str | None) -> str | None:
    return text if text is None or len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 1] + "…"


def _resource(stored: Stored) -> JSON:
    assert stored.body is not None
    return jsonformat.parse(inflate(stored.body))
