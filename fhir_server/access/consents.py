"""What patients permit and deny: Consent resources read as rules about who sees what of one patient. R4 consent.html.

Only Consents that say more than "yes" matter here: those that deny something, or name somebody. Where a provision is
narrower than this server can tell (a class that is no resource type, a code without coding), a denial is taken as wide
as it may be meant, and a permission is not taken at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from fhir_server.context import Server
from fhir_server.gzipped import inflate
from fhir_server.resources import jsonformat
from fhir_server.resources.types import TYPE_SET
from fhir_server.search import ast
from fhir_server.search.extract import ReferenceKeys
from fhir_server.search.resolve import resolver
from fhir_server.storage.protocol import HistoryQuery
from fhir_server.storage.writes import Stored

JSON = Mapping[str, Any]

SCOPES: Final = frozenset(("patient-privacy", "treatment"))
"""Consent.scope that is about access to the record; advance directives and research are not."""

CARE: Final = frozenset(("TREAT", "ETREAT", "CAREMGT", "CLINTRCH", "HOPERAT", "PATADMIN", "PATRQT", "FAMRQT", "COC"))
"""v3-PurposeOfUse for which people use this server; a provision for other purposes only (marketing, research) is not
about them."""

_SEEING: Final = frozenset(("access", "use"))
"""Consent.provision.action (consentaction) that lets somebody see data here."""

_OPT_OUT: Final = frozenset(("OPTOUT", "OPTOUTE"))
MAX_WEIGHT: Final = 200
"""Of what one patient's Consents say to one person (see _weight)."""
MAX_WEIGHTS: Final = 1000
"""Of what the Consents of all patients say to one person."""
_PARAMETERS: Final = 10
"""Parameters of a type in which a code is looked for, about."""
_ITEMS: Final = 50
"""Items of a list that weigh as much as a test."""

_PAGE: Final = 500
_MARGIN_US: Final = 60_000_000
"""How far back each look for changes begins, for writes that were open at the last one."""


@dataclass(frozen=True, slots=True)
class Restriction:
    """What a provision is about: resource types, labels and coded content (system, code), the time that data are of
    (microseconds, half open), single resources; all empty is everything."""

    types: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    data: tuple[str, ...] = ()
    codes: tuple[tuple[str, str], ...] = ()
    time: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Layer:
    """One provision as it applies to somebody now. `named`: it, or what it is an exception from, names him or her, or
    an organization of theirs. It is about what meets all `restrictions`; without any about everything.
    """

    effect: Literal["permit", "deny"]
    restrictions: tuple[Restriction, ...]
    named: bool


Layers = tuple[Layer, ...]
"""One Consent, the outermost provision first: each is an exception from those before it."""


@dataclass(frozen=True, slots=True)
class Provision:
    """Consent.provision. `effect` None: only a frame for those inside. Times are microseconds, half open."""

    effect: Literal["permit", "deny"] | None
    start: int
    end: int
    actors: frozenset[str]
    restriction: Restriction
    inner: tuple[Provision, ...]
    concerns: bool = True
    """Whether it is for a purpose that is care."""
    certain: bool = True
    """Whether everything that narrows it was understood."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """One Consent in force. `root` says what it provides; `opt_out`: its policy is that nobody sees the record."""

    patient: str
    root: Provision
    opt_out: bool = False

    def layers(self, refs: frozenset[str], now_us: int) -> Layers:
        """What it says to somebody who is these references (and part of these organizations)."""
        found: list[Layer] = []
        if self.opt_out and self.root.start <= now_us < self.root.end:
            found.append(Layer("deny", (), False))
        _walk(self.root, refs, now_us, _Frame(), found)
        return tuple(found)


@dataclass(frozen=True, slots=True)
class _Frame:
    """What the provisions around one say: whether they are for this person, name him or her, and are understood; and
    what they are about.
    """

    meets: bool = True
    named: bool = False
    certain: bool = True
    restrictions: tuple[Restriction, ...] = ()


def _walk(one: Provision, refs: frozenset[str], now_us: int, around: _Frame, found: list[Layer]) -> None:
    if not one.start <= now_us < one.end or not one.concerns:
        return
    # An exception without actors is for those whom its base is for.
    named = bool(one.actors & refs) or (not one.actors and around.named)
    meets = named or not one.actors
    own = () if one.restriction == Restriction() else (one.restriction,)
    here = _Frame(around.meets and meets, named, around.certain and one.certain, (*around.restrictions, *own))
    if one.effect == "deny" and meets:
        # A denial inside a provision for others still stands: it says who shall not see.
        found.append(Layer("deny", own, named))
    elif one.effect == "permit" and here.meets and here.certain:
        found.append(Layer("permit", here.restrictions, named))
    for inner in one.inner:
        _walk(inner, refs, now_us, here, found)


# --- reading a Consent ------------------------------------------------------------------------------------------------


class Reader:
    """Consent resources to Agreements. One per server: references and dates are the server's."""

    def __init__(self, server: Server) -> None:
        settings = server.extractor.settings
        self._references = ReferenceKeys(settings.base_urls)
        self._calendar = settings.calendar

    def agreement(self, consent: JSON) -> Agreement | None:
        """The Agreement, or None when it is not in force or says nothing that narrows or widens."""
        if consent.get("status") != "active" or not any(
            coding.get("code") in SCOPES for coding in (consent.get("scope") or {}).get("coding") or ()
        ):
            return None
        patient = self.reference((consent.get("patient") or {}).get("reference"))
        if not patient.startswith("Patient/"):
            return None
        policy = {coding.get("code") for coding in (consent.get("policyRule") or {}).get("coding") or ()}
        root = self._provision(consent.get("provision") or {})
        made = Agreement(patient.removeprefix("Patient/"), root, bool(policy & _OPT_OUT))
        return made if made.opt_out or _matters(root) else None

    def reference(self, text: Any) -> str:
        """``Type/id`` of a reference to this server; "" for none."""
        return self._references.key(text)[0] if isinstance(text, str) and text else ""

    def period(self, period: JSON | None) -> tuple[int, int]:
        """[start, end) of a Period in microseconds; its last day belongs to it. Nothing is in a period that is not
        one."""
        low, high = -(1 << 62), 1 << 62
        try:
            if (period or {}).get("start"):
                low = self._calendar.stored(period["start"])[0]  # type: ignore[index]
            if (period or {}).get("end"):
                high = self._calendar.stored(period["end"])[1]  # type: ignore[index]
        except ValueError:
            return 0, 0
        return low, high

    def _provision(self, provision: JSON) -> Provision:
        start, end = self.period(provision.get("period"))
        effect = provision.get("type")
        actors = {self.reference((one.get("reference") or {}).get("reference")) for one in provision.get("actor") or ()}
        classes = [one.get("code") for one in provision.get("class") or ()]
        types = tuple(sorted({code for code in classes if code in TYPE_SET}))
        labels = _coded(provision.get("securityLabel") or ())
        named = provision.get("data") or ()
        data = tuple(sorted({self.reference((one.get("reference") or {}).get("reference")) for one in named}))
        concepts = provision.get("code") or ()
        codes = _coded(coding for concept in concepts for coding in concept.get("coding") or ())
        period = provision.get("dataPeriod")
        time = self.period(period) if period else None
        purposes = {one.get("code") for one in provision.get("purpose") or ()}
        actions = {coding.get("code") for one in provision.get("action") or () for coding in one.get("coding") or ()}
        certain = (
            len(types) == len(set(classes))
            and all(_coded(concept.get("coding") or ()) for concept in concepts)
            and all("code" in one for one in provision.get("securityLabel") or ())
            and (time is None or time[0] < time[1])
        )
        if effect == "permit":
            # To let somebody collect or correct data is not to let them see it.
            certain = certain and (not provision.get("action") or bool(actions & _SEEING))
        elif effect == "deny":
            # What is linked with a resource, depends on it or was written by somebody is more than that resource.
            certain = certain and all(one.get("meaning") == "instance" for one in named)
        # Of a denial the part that is understood would be less than was meant, so it is taken as a whole.
        restriction = Restriction(types, labels, data, codes, time) if certain or effect != "deny" else Restriction()
        return Provision(
            effect if effect in ("permit", "deny") else None,
            start,
            end,
            frozenset(actors),
            restriction,
            tuple(self._provision(one) for one in provision.get("provision") or ()),
            not purposes or bool(purposes & CARE),
            certain,
        )


def _coded(codings: Iterable[JSON]) -> tuple[tuple[str, str], ...]:
    """(system, code) of some Codings, each once."""
    return tuple(sorted({(one.get("system", ""), one["code"]) for one in codings if "code" in one}))


def _matters(one: Provision) -> bool:
    return one.effect == "deny" or bool(one.actors) or any(_matters(inner) for inner in one.inner)


# --- all of a store ---------------------------------------------------------------------------------------------------


class Agreements:
    """The Agreements of a store that matter, kept up to date by the history of Consent.

    The first look reads every active Consent; those that only say "yes" are told by their bytes and not parsed.
    """

    def __init__(self, server: Server, monotonic: Callable[[], float], fresh_s: float) -> None:
        self.reader = Reader(server)
        self.version = 0
        self._server = server
        self._monotonic = monotonic
        self._fresh_s = fresh_s
        self._known: dict[str, Agreement] = {}
        self._versions: dict[str, int] = {}
        self._since: int | None = None
        self._looked = 0.0

    def __iter__(self) -> Iterator[Agreement]:
        return iter(self._known.values())

    def refresh(self, now: bool = False) -> None:
        """Notices what changed; looks at most every `fresh_s` seconds unless `now`."""
        if self._since is None:
            self._load()
        elif now or self._monotonic() - self._looked >= self._fresh_s:
            self._follow()
        else:
            return
        self._looked = self._monotonic()

    def _load(self) -> None:
        store = self._server.store
        newest = store.history(HistoryQuery("Consent", count=1)).entries
        context = resolver(self._server.registry, self._server.extractor.settings)
        search = ast.Search(ast.Select(("Consent",), context.node(("Consent",), "status", "active")), count=_PAGE)
        while True:
            page = store.search(search)
            self._take(page.matches)
            if page.next is None:
                break
            search = ast.Search(search.select, count=_PAGE, after=page.next)
        self._since = newest[0].updated if newest else 0

    def _follow(self) -> None:
        assert self._since is not None
        since, query = self._since, HistoryQuery("Consent", count=_PAGE, since=max(self._since - _MARGIN_US, 0))
        while True:
            page = self._server.store.history(query)
            self._take(page.entries)
            since = max([since, *(one.updated for one in page.entries)])
            if page.next is None:
                break
            query = HistoryQuery("Consent", count=_PAGE, since=query.since, before=page.next, until=page.watermark)
        self._since = since

    def _take(self, found: Sequence[Stored]) -> None:
        for stored in found:
            if self._versions.get(stored.address, 0) >= stored.version:
                continue
            self._versions[stored.address] = stored.version
            made = None
            if stored.body is not None:
                body = inflate(stored.body)
                if any(mark in body for mark in (b'"deny"', b'"actor"', b"OPTOUT")):
                    made = self.reader.agreement(jsonformat.parse(body))
            if made != self._known.get(stored.address):
                self.version += 1
                if made is None:
                    del self._known[stored.address]
                else:
                    self._known[stored.address] = made


def by_patient(
    agreements: Iterable[Agreement], refs: frozenset[str], now_us: int, *, named_only: bool = False
) -> dict[str, tuple[Layers, ...]]:
    """Patient id -> what that patient's Consents say to somebody; patients whose Consents say nothing are left out.

    `named_only`: only provisions that name him or her, which is what counts within a family.
    """
    found: dict[str, list[Layers]] = {}
    for agreement in agreements:
        layers = agreement.layers(refs, now_us)
        if named_only:
            layers = tuple(layer for layer in layers if layer.named)
        if any(layer.effect == "deny" or layer.named for layer in layers):
            found.setdefault(agreement.patient, []).append(layers)
    return _bounded({patient: tuple(sorted(set(kept), key=repr)) for patient, kept in found.items()})


def _bounded(said: dict[str, tuple[Layers, ...]]) -> dict[str, tuple[Layers, ...]]:
    """The same, where it is not more than every search can carry: else some patient's Consent would be the end of all
    requests of those who treat that patient. What is too much is taken as a whole: as a denial where there is one, else
    as nothing. What says most comes first; what several patients say alike counts once, as in a condition.
    """
    weights = {agreements: _weight(agreements) for agreements in said.values()}
    total = sum(weights.values())
    if total <= MAX_WEIGHTS and all(weight <= MAX_WEIGHT for weight in weights.values()):
        return said
    instead: dict[tuple[Layers, ...], tuple[Layers, ...]] = {}
    for agreements in sorted(weights, key=lambda one: (-weights[one], repr(one))):
        if weights[agreements] <= MAX_WEIGHT and total <= MAX_WEIGHTS:
            break
        total -= weights[agreements]
        denials = [layer for layers in agreements for layer in layers if layer.effect == "deny"]
        named = any(layer.named for layer in denials)
        instead[agreements] = ((Layer("deny", (), named),),) if denials else ()
    return {patient: kept for patient, agreements in said.items() if (kept := instead.get(agreements, agreements))}


def _weight(agreements: tuple[Layers, ...]) -> int:
    """How much Consents add to a condition, in tests of about the same cost."""
    return sum(
        1
        + sum(
            1
            + (_PARAMETERS if one.codes else 0)
            + (_PARAMETERS // 2 if one.time else 0)
            + (len(one.data) + len(one.codes) + len(one.labels)) // _ITEMS
            for one in layer.restrictions
        )
        for layers in agreements
        for layer in layers
    )
