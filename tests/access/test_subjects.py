"""Whose a resource is: every type of R4's Patient compartment, and what was decided about it."""

from __future__ import annotations

from fhir_server import definitions
from fhir_server.access import subjects
from fhir_server.search.registry import builtin

BY_PATIENT = """
    Account AllergyIntolerance Appointment AppointmentResponse Basic BodyStructure CarePlan CareTeam
    ChargeItem Claim ClaimResponse ClinicalImpression Communication CommunicationRequest Composition Condition
    Consent CoverageEligibilityRequest CoverageEligibilityResponse DetectedIssue DeviceRequest
    DeviceUseStatement DiagnosticReport DocumentManifest DocumentReference Encounter EnrollmentRequest
    EpisodeOfCare ExplanationOfBenefit FamilyMemberHistory Flag Goal ImagingStudy Immunization
    ImmunizationEvaluation ImmunizationRecommendation Invoice List MeasureReport Media MedicationAdministration
    MedicationDispense MedicationRequest MedicationStatement MolecularSequence NutritionOrder Observation
    Procedure Provenance QuestionnaireResponse RelatedPerson RequestGroup ResearchSubject RiskAssessment
    ServiceRequest Specimen SupplyDelivery VisionPrescription
"""
OTHERWISE = {
    "AdverseEvent": ("subject",),
    "AuditEvent": ("entity",),
    "Coverage": ("beneficiary",),
    "Patient": (),
    "SupplyRequest": ("subject",),
}
LEFT_OUT = {"Group", "Person", "Schedule"}
ADDED = {
    "Contract": ("patient",),
    "Device": ("patient",),
    "GuidanceResponse": ("patient",),
    "Task": ("patient",),
    "VerificationResult": ("target",),
}


def test_every_type_of_the_compartment_has_a_decision() -> None:
    decided = {**dict.fromkeys(BY_PATIENT.split(), ("patient",)), **OTHERWISE}
    assert decided.keys() | LEFT_OUT == definitions.compartments()["Patient"].keys() | {"Patient"}
    assert subjects.table() == {**decided, **ADDED}


def test_only_the_subject_counts() -> None:
    """T5, F9: never who sends, receives, performs, records or pays, nor what a task is about."""
    never = {
        ("Communication", "sender"),
        ("Communication", "recipient"),
        ("Observation", "performer"),
        ("MedicationDispense", "receiver"),
        ("Task", "focus"),
        ("Patient", "link"),
        ("Coverage", "payor"),
        ("Composition", "author"),
        ("Condition", "asserter"),
        ("List", "source"),
    }
    registry = builtin()
    for name, code in never:
        param = registry.param(name, code)
        assert param is not None
        assert not set(param.numbers) & set(subjects.numbers(registry, name)), (name, code)


def test_every_decision_is_a_reference_that_may_be_a_patient() -> None:
    for name, codes in subjects.table().items():
        for code in codes:
            param = builtin().param(name, code)
            assert param is not None
            assert "Patient" in param.targets
