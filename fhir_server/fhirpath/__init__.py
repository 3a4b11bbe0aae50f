"""FHIRPath N1 over R4 resources as plain JSON. http://hl7.org/fhirpath/N1/ and R4 fhirpath.html.

``compile_expression(text, context_type).truth(focus, environment)`` decides an invariant,
``compile_expression(text).evaluate(resource)`` yields Items, ``parse(text)`` the syntax tree.
"""

from fhir_server.fhirpath.ast import (
    Binary,
    Call,
    External,
    Focus,
    Index,
    IndexVar,
    Literal,
    Member,
    Node,
    This,
    Total,
    TypeOp,
    TypeSpecifier,
    Unary,
    unions,
    walk,
)
from fhir_server.fhirpath.errors import BudgetExceeded, FhirPathError
from fhir_server.fhirpath.expression import Compiled, compile_expression
from fhir_server.fhirpath.parser import parse
from fhir_server.fhirpath.values import Environment, Item

__all__ = [
    "Binary",
    "BudgetExceeded",
    "Call",
    "Compiled",
    "Environment",
    "External",
    "FhirPathError",
    "Focus",
    "Index",
    "IndexVar",
    "Item",
    "Literal",
    "Member",
    "Node",
    "This",
    "Total",
    "TypeOp",
    "TypeSpecifier",
    "Unary",
    "compile_expression",
    "parse",
    "unions",
    "walk",
]
