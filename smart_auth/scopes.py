"""The grammar of SMART scopes: parsing, rendering, comparing and grouping. Pure; the FHIR side reads it too.

SMART App Launch 2.2, "Scopes and Launch Context" (scopes-and-launch-context.html), and version 1 of the same page.
A scope is shown and granted as it was asked for; what it means is in its fields.

    patient/Observation.rs?category=http://terminology.hl7.org/CodeSystem/observation-category|laboratory
    context type        actions and query
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, TypeAlias, cast
from urllib.parse import quote, unquote

Context: TypeAlias = Literal["patient", "user", "system"]

ACTIONS: Final = "cruds"
"""Create, read, update (patch too), delete, search; always in this order."""

VERSION_1: Final = {"read": "rs", "write": "cud", "*": ACTIONS}
"""What the words of SMART 1.0 mean in 2.x. scopes-and-launch-context.html, "Scopes for requesting FHIR Resources"."""

LAUNCH: Final = ("launch", "launch/patient", "launch/encounter")
IDENTITY: Final = ("openid", "fhirUser", "profile")
REFRESH: Final = ("offline_access", "online_access")
PLAIN: Final = frozenset((*LAUNCH, *IDENTITY, *REFRESH))

MAX_SCOPES: Final = 500
"""Scopes beyond these are not read: no client needs as many, and every one costs work at every comparison."""
MAX_TEXT: Final = 1000
"""Characters of one scope."""

TYPES: Final = frozenset(
    """
    Account ActivityDefinition AdverseEvent AllergyIntolerance Appointment AppointmentResponse AuditEvent Basic Binary
    BiologicallyDerivedProduct BodyStructure Bundle CapabilityStatement CarePlan CareTeam CatalogEntry ChargeItem
    ChargeItemDefinition Claim ClaimResponse ClinicalImpression CodeSystem Communication CommunicationRequest
    CompartmentDefinition Composition ConceptMap Condition Consent Contract Coverage CoverageEligibilityRequest
    CoverageEligibilityResponse DetectedIssue Device DeviceDefinition DeviceMetric DeviceRequest DeviceUseStatement
    DiagnosticReport DocumentManifest DocumentReference EffectEvidenceSynthesis Encounter Endpoint EnrollmentRequest
    EnrollmentResponse EpisodeOfCare EventDefinition Evidence EvidenceVariable ExampleScenario ExplanationOfBenefit
    FamilyMemberHistory Flag Goal GraphDefinition Group GuidanceResponse HealthcareService ImagingStudy Immunization
    ImmunizationEvaluation ImmunizationRecommendation ImplementationGuide InsurancePlan Invoice Library Linkage List
    Location Measure MeasureReport Media Medication MedicationAdministration MedicationDispense MedicationKnowledge
    MedicationRequest MedicationStatement MedicinalProduct MedicinalProductAuthorization
    MedicinalProductContraindication MedicinalProductIndication MedicinalProductIngredient
    MedicinalProductInteraction MedicinalProductManufactured MedicinalProductPackaged MedicinalProductPharmaceutical
    MedicinalProductUndesirableEffect MessageDefinition MessageHeader MolecularSequence NamingSystem NutritionOrder
    Observation ObservationDefinition OperationDefinition OperationOutcome Organization OrganizationAffiliation
    Parameters Patient PaymentNotice PaymentReconciliation Person PlanDefinition Practitioner PractitionerRole
    Procedure Provenance Questionnaire QuestionnaireResponse RelatedPerson RequestGroup ResearchDefinition
    ResearchElementDefinition ResearchStudy ResearchSubject RiskAssessment RiskEvidenceSynthesis Schedule
    SearchParameter ServiceRequest Slot Specimen SpecimenDefinition StructureDefinition StructureMap Subscription
    Substance SubstanceNucleicAcid SubstancePolymer SubstanceProtein SubstanceReferenceInformation
    SubstanceSourceMaterial SubstanceSpecification SupplyDelivery SupplyRequest Task TerminologyCapabilities
    TestReport TestScript ValueSet VerificationResult VisionPrescription
    """.split()  # noqa: SIM905
)
"""The resource types of R4."""

_TOKEN: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")
_RESOURCE: Final = re.compile(r"(patient|user|system)/([A-Z][A-Za-z]*|\*)\.([a-z]+|\*)(?:\?(.+))?")
_CRUDS: Final = re.compile("c?r?u?d?s?")
_RESULTS: Final = frozenset(
    ("_contained", "_containedType", "_count", "_elements", "_explain", "_format", "_include", "_include:iterate")
) | {"_pretty", "_revinclude", "_revinclude:iterate", "_sort", "_summary", "_total", "_query"}
"""They shape a result and restrict nothing."""
_CODE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_\-]*(?::[A-Za-z\-]+)?")


@dataclass(frozen=True, slots=True)
class PlainScope:
    """A scope that is a word: launch context, identity, or refresh tokens."""

    text: str


@dataclass(frozen=True, slots=True)
class ResourceScope:
    """Access to resources. `type` "*" is every type; `actions` a part of "cruds" in that order.

    `query`: names and values, decoded and in the order given, of a granular scope: only resources that this search
    finds. `text` is the scope as it was asked for.
    """

    text: str
    context: Context
    type: str
    actions: str
    query: tuple[tuple[str, str], ...] = ()

    def covers(self, other: ResourceScope) -> bool:
        """Whether whoever has this scope has the other one too."""
        return (
            self.context == other.context
            and self.type in ("*", other.type)
            and set(other.actions) <= set(self.actions)
            and set(self.query) <= set(other.query)
        )


Scope: TypeAlias = PlainScope | ResourceScope


# --- text -------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def parse_one(text: str) -> Scope | None:
    """The scope that `text` is, or None: SMART lets a server ignore what it does not define or understand."""
    if text in PLAIN:
        return PlainScope(text)
    if len(text) > MAX_TEXT or not _TOKEN.fullmatch(text):
        return None
    found = _RESOURCE.fullmatch(text)
    if found is None:
        return None
    context, type_, letters, query = found.groups()
    if type_ != "*" and type_ not in TYPES:
        return None
    actions = VERSION_1.get(letters)
    if actions is None:
        if not _CRUDS.fullmatch(letters):
            return None
        actions = letters
    elif query is not None:
        return None  # Restrictions came with version 2, and so does their syntax.
    pairs = _pairs(query) if query is not None else ()
    if pairs is None:
        return None
    return ResourceScope(text, cast(Context, context), type_, actions, pairs)


def _pairs(query: str) -> tuple[tuple[str, str], ...] | None:
    pairs = []
    for part in query.split("&"):
        name, _, value = part.partition("=")
        if not value or name in _RESULTS or not all(_CODE.fullmatch(link) for link in _links(name)):
            return None
        pairs.append((unquote(name), unquote(value)))
    return tuple(pairs)


def _links(name: str) -> list[str]:
    if name.startswith("_has:"):
        kept = name.split(":", 3)
        return [kept[1], kept[2], *kept[3].split(".")] if len(kept) == 4 else [""]
    return name.split(".")


def parse(text: str) -> list[Scope]:
    """The valid scopes of a space separated list, each once, in order. The others are what `invalid` tells."""
    return [scope for scope in map(parse_one, _words(text)) if scope is not None]


def invalid(text: str) -> list[str]:
    """The words of a list that are no scopes here; they are left out of what is granted. RFC 6749 section 3.3."""
    return [word for word in _words(text) if parse_one(word) is None]


def _words(text: str) -> list[str]:
    return list(dict.fromkeys(text.split()))[:MAX_SCOPES]


def render(scopes: Iterable[Scope]) -> str:
    """A space separated list, each scope as it was asked for."""
    return " ".join(dict.fromkeys(scope.text for scope in scopes))


def normalize(scope: Scope) -> Scope:
    """The same right in version 2 syntax: `.read` is `.rs`, `.write` is `.cud`, `.*` is `.cruds`."""
    return scope if isinstance(scope, PlainScope) else make(scope.context, scope.type, scope.actions, scope.query)


def make(context: Context, type: str, actions: str, query: Iterable[tuple[str, str]] = ()) -> ResourceScope:
    """A scope of these parts, with its text in version 2 syntax. `actions` may be in any order."""
    ordered = "".join(letter for letter in ACTIONS if letter in actions)
    pairs = tuple(query)
    text = f"{context}/{type}.{ordered}"
    if pairs:
        text += "?" + "&".join(f"{quote(name, safe=':')}={quote(value, safe=_SAFE)}" for name, value in pairs)
    return ResourceScope(text, context, type, ordered, pairs)


_SAFE: Final = ":/|,$!*()@;'"


def is_version_1(scope: Scope) -> bool:
    """Whether a scope is written as SMART 1.0 has it (`.read`, `.write`, `.*`)."""
    return isinstance(scope, ResourceScope) and scope.text.rpartition(".")[2] in VERSION_1 and not scope.query


# --- comparing --------------------------------------------------------------------------------------------------------


def covers(allowed: Iterable[Scope], asked: Scope) -> bool:
    """Whether what is allowed includes all that is asked for; several scopes may do so together (`.r` and `.s`)."""
    if isinstance(asked, PlainScope):
        return any(scope.text == asked.text for scope in allowed)
    left = set(asked.actions)
    for scope in allowed:
        if isinstance(scope, ResourceScope) and scope.covers(_with_actions(asked, scope.actions)):
            left -= set(scope.actions)
    return not left


def _with_actions(scope: ResourceScope, actions: str) -> ResourceScope:
    """The scope with only those of its actions that are in `actions`."""
    kept = "".join(letter for letter in scope.actions if letter in actions)
    return ResourceScope(scope.text, scope.context, scope.type, kept, scope.query)


def intersect(asked: Iterable[Scope], allowed: Iterable[Scope]) -> list[Scope]:
    """What may be granted: of each scope asked for the part that is allowed, in the order asked.

    A scope that is allowed as a whole stays as it was written. Of `patient/*.rs` where only `patient/Observation.r`
    is allowed, `patient/Observation.r` is left; parts that others cover are left out.
    """
    limits = list(allowed)
    granted: list[Scope] = []
    for scope in asked:
        if covers(limits, scope):
            granted.append(scope)
        elif isinstance(scope, ResourceScope):
            granted += [
                part
                for limit in limits
                if isinstance(limit, ResourceScope) and (part := _common(scope, limit)) is not None
            ]
    return _without_covered(granted)


def _common(one: ResourceScope, other: ResourceScope) -> ResourceScope | None:
    """The right that both scopes give, in the syntax of `one`; None when there is none."""
    if one.context != other.context or (one.type != other.type and "*" not in (one.type, other.type)):
        return None
    actions = "".join(letter for letter in one.actions if letter in other.actions)
    if not actions:
        return None
    query = tuple(dict.fromkeys((*one.query, *other.query)))
    made = make(one.context, other.type if one.type == "*" else one.type, actions, query)
    if is_version_1(one) and not query:
        word = next((word for word, letters in VERSION_1.items() if letters == actions), None)
        if word is not None:
            return ResourceScope(f"{made.context}/{made.type}.{word}", made.context, made.type, actions)
    return made


def _without_covered(scopes: list[Scope]) -> list[Scope]:
    """Each scope once, and none after a scope that covers it."""
    kept: list[Scope] = []
    for scope in dict.fromkeys(scopes):
        if isinstance(scope, ResourceScope) and any(
            isinstance(other, ResourceScope) and other is not scope and other.covers(scope) for other in kept
        ):
            continue
        kept.append(scope)
    return kept


# --- for people -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Group:
    """What a consent screen says in one line: rights of one context on one type, under one restriction.

    `actions` are those of all its `scopes` together; `type` "*" is everything.
    """

    context: Context
    type: str
    actions: str
    query: tuple[tuple[str, str], ...]
    scopes: tuple[ResourceScope, ...]

    @property
    def reads(self) -> bool:
        return "r" in self.actions or "s" in self.actions

    @property
    def writes(self) -> bool:
        return any(letter in self.actions for letter in "cud")


def grouped(scopes: Iterable[Scope]) -> tuple[list[Group], list[str]]:
    """Rights on resources, one group per context, type and restriction in the order first met; and the plain scopes."""
    found: dict[tuple[Context, str, tuple[tuple[str, str], ...]], list[ResourceScope]] = {}
    plain: list[str] = []
    for scope in scopes:
        if isinstance(scope, PlainScope):
            plain.append(scope.text)
        else:
            found.setdefault((scope.context, scope.type, scope.query), []).append(scope)
    groups = [
        Group(
            context, type_, "".join(a for a in ACTIONS if any(a in one.actions for one in members)), query, (*members,)
        )
        for (context, type_, query), members in found.items()
    ]
    return groups, plain
