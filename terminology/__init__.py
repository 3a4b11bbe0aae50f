"""Code systems, value sets and concept maps: what search, bindings and the terminology operations ask about codes.

Imports none of the other packages of the project and knows no HTTP; see docs/terminology.md.
"""

from terminology.errors import NotExpandable, TerminologyError, UnknownCanonical, UnknownCode
from terminology.local import Local
from terminology.protocol import Concept, Expansion, Resources, Terminology, Translation, Validation

__all__ = [
    "Concept",
    "Expansion",
    "Local",
    "NotExpandable",
    "Resources",
    "Terminology",
    "TerminologyError",
    "Translation",
    "UnknownCanonical",
    "UnknownCode",
    "Validation",
]
