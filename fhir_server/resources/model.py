"""R4 resources as the models of `fhir.resources`, and where these differ from R4. The only importer of that package.

The models are those of R4B (4.3), the nearest that the package has. They serve code that builds resources (rules,
portal, seed) and are the oracle of `tests/unit/resources/test_model_differential.py`; what is stored is judged by
`validate`, which knows R4 itself. The package is imported when it is first used, because that takes half a second.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from fhir_server.errors import NotSupported

MISSING_TYPES: Final = frozenset(
    {
        "EffectEvidenceSynthesis",
        "MedicinalProduct",
        "MedicinalProductAuthorization",
        "MedicinalProductContraindication",
        "MedicinalProductIndication",
        "MedicinalProductIngredient",
        "MedicinalProductInteraction",
        "MedicinalProductManufactured",
        "MedicinalProductPackaged",
        "MedicinalProductPharmaceutical",
        "MedicinalProductUndesirableEffect",
        "RiskEvidenceSynthesis",
        "SubstanceNucleicAcid",
        "SubstancePolymer",
        "SubstanceProtein",
        "SubstanceReferenceInformation",
        "SubstanceSourceMaterial",
        "SubstanceSpecification",
    }
)
"""Types of R4 that R4B dropped."""

ONLY_R4B: Final[dict[str, frozenset[str]]] = {
    "ActivityDefinition": frozenset({"subjectCanonical"}),
    "ElementDefinition": frozenset(
        f"{name}{kind}" for name in ("defaultValue", "fixed", "pattern") for kind in ("CodeableReference", "RatioRange")
    ),
    "ElementDefinition.example": frozenset({"valueCodeableReference", "valueRatioRange"}),
    "Evidence": frozenset(
        {
            "assertion",
            "certainty",
            "citeAsMarkdown",
            "citeAsReference",
            "statistic",
            "studyType",
            "synthesisType",
            "variableDefinition",
        }
    ),
    "EvidenceVariable": frozenset({"actual", "category", "characteristicCombination", "handling"}),
    "EvidenceVariable.characteristic": frozenset({"device", "method"}),
    "Extension": frozenset({"valueCodeableReference", "valueRatioRange"}),
    "PlanDefinition": frozenset({"subjectCanonical"}),
    "PlanDefinition.action": frozenset({"subjectCanonical"}),
}
"""JSON members (``_`` siblings go with them) that the models have and R4 does not. They also give div a sibling."""

ONLY_R4: Final[dict[str, frozenset[str]]] = {
    "ElementDefinition": frozenset({"defaultValueMeta", "fixedMeta", "patternMeta"}),
    "ElementDefinition.example": frozenset({"valueMeta"}),
    "Evidence": frozenset(
        {
            "copyright",
            "effectivePeriod",
            "exposureBackground",
            "exposureVariant",
            "jurisdiction",
            "name",
            "outcome",
            "shortTitle",
            "subtitle",
            "topic",
        }
    ),
    "EvidenceVariable": frozenset(
        {"approvalDate", "copyright", "effectivePeriod", "jurisdiction", "lastReviewDate", "topic", "type"}
    ),
    "EvidenceVariable.characteristic": frozenset(
        {
            "definitionDataRequirement",
            "definitionTriggerDefinition",
            "participantEffectiveDateTime",
            "participantEffectiveDuration",
            "participantEffectivePeriod",
            "participantEffectiveTiming",
            "usageContext",
        }
    ),
    "ExampleScenario.instance": frozenset({"resourceType"}),
    "Extension": frozenset({"valueMeta"}),
}
"""JSON members that R4 has and the models lack. They also refuse extensions on an extension's primitive value[x]."""


@cache
def model_class(resource_type: str) -> Any:
    """The model class of a resource or data type, a pydantic model.

    Raises NotSupported for `MISSING_TYPES` and for what R4B does not know either.
    """
    from fhir.resources.R4B import get_fhir_model_class

    if resource_type in MISSING_TYPES:
        raise NotSupported(f"{resource_type} has no model: R4B, which the models follow, dropped it.")
    try:
        return get_fhir_model_class(resource_type)
    except (KeyError, ValueError):
        raise NotSupported("The type is none of R4B.") from None


def to_model(resource: dict[str, Any]) -> Any:
    """A resource as a model instance.

    Raises NotSupported as `model_class` does, and pydantic's ValidationError when R4B does not allow the content.
    """
    return model_class(resource["resourceType"]).model_validate(resource)


def to_resource(instance: Any) -> dict[str, Any]:
    """A model instance as a plain resource, decimals as `Decimal`; it takes some 200 us, so not on a hot path."""
    resource: dict[str, Any] = instance.model_dump()
    return {"resourceType": instance.get_resource_type(), **resource}
