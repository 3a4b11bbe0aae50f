"""FHIRPath N1 over R4 resources as plain JSON. http://hl7.org/fhirpath/N1/ and R4 fhirpath.html."""

from fhir_server.fhirpath.parser import parse as parse
