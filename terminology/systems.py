"""What is known of code systems that no package defines: case, grammar, implicit value sets and other names.

Spec: R4 terminologies-systems.html and the page of each system (loinc.html, snomedct.html, ucum.html, ...)
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final
from urllib.parse import unquote

from terminology import ucum

SNOMED: Final = "http://snomed.info/sct"
LOINC: Final = "http://loinc.org"
UCUM: Final = "http://unitsofmeasure.org"
MIME_TYPES: Final = "urn:ietf:bcp:13"
LANGUAGES: Final = "urn:ietf:bcp:47"

CASE_SENSITIVE: Final[dict[str, bool]] = {
    SNOMED: False,  # digits
    LOINC: False,  # digits, and LA, LL, LP, LG in front of them
    UCUM: True,  # the c/s variant that FHIR uses: mL and ML differ by 10^9
    MIME_TYPES: False,  # RFC 2045 5.1
    LANGUAGES: False,  # RFC 5646 2.1.1
    "urn:iso:std:iso:3166": False,
    "urn:iso:std:iso:3166:-2": False,
    "urn:iso:std:iso:4217": False,
    "urn:iso:std:iso:11073:10101": False,  # digits
    "https://www.iana.org/time-zones": False,  # no two names differ by case alone
    "http://unstats.un.org/unsd/methods/m49/m49.htm": False,  # digits
    "http://www.nlm.nih.gov/research/umls/rxnorm": False,  # digits
    "http://www.ama-assn.org/go/cpt": False,
    "http://www.whocc.no/atc": False,
    "http://fdasis.nlm.nih.gov": False,  # UNII
    "http://nucc.org/provider-taxonomy": False,
    "http://hl7.org/fhir/ndfrt": False,
    "http://varnomen.hgvs.org/": True,  # c. and C are different things in HGVS
    "http://varnomen.hgvs.org": True,
    **{
        f"http://hl7.org/fhir/sid/{name}": False
        for name in (
            "icd-10",
            "icd-10-cm",
            "icd-10-pcs",
            "icd-10-ca",
            "icd-10-de",
            "icd-10-nl",
            "icd-9",
            "icd-9-cm",
            "icf-nl",
            "icpc-1",
            "icpc-2",
            "cvx",
            "mvx",
            "ndc",
            "ex-icd-10-procedures",
        )
    },
}
"""System -> whether case distinguishes its codes. What is neither here nor in a package is unknown."""

# RFC 6838 4.2 with parameters as RFC 2045 5.1 writes them, blanks allowed around the semicolon.
_MIME_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+\-]{0,126}"
_mime_type = re.compile(
    rf"{_MIME_NAME}/{_MIME_NAME}(?: ?; ?[A-Za-z0-9!#$&^_.+\-]+=(?:\"[^\"\\]*\"|[^\s;\"]+))*", re.ASCII
)

# R4 capabilitystatement.html: format is "xml | json | ttl | mime type", with a required binding to BCP 13 all the same;
# R4's own CapabilityStatements and TestScripts write them.
_FORMATS: Final = frozenset({"xml", "json", "ttl"})

# RFC 5646 2.1, without its list of grandfathered tags but with their shapes.
_language = re.compile(
    r"(?:[a-z]{2,3}(?:-[a-z]{3}){0,3}|[a-z]{4,8})(?:-[a-z]{4})?(?:-(?:[a-z]{2}|[0-9]{3}))?"
    r"(?:-(?:[a-z0-9]{5,8}|[0-9][a-z0-9]{3}))*(?:-[a-wy-z0-9](?:-[a-z0-9]{2,8})+)*(?:-x(?:-[a-z0-9]{1,8})+)?"
    r"|x(?:-[a-z0-9]{1,8})+|i-[a-z]{2,8}|[a-z]{2,3}(?:-[a-z0-9]{2,8}){1,2}",
    re.ASCII | re.IGNORECASE,
)


def _is_mime_type(code: str) -> bool:
    return code in _FORMATS or _mime_type.fullmatch(code) is not None


def _is_language(code: str) -> bool:
    return _language.fullmatch(code) is not None


GRAMMARS: Final[dict[str, Callable[[str], bool]]] = {
    MIME_TYPES: _is_mime_type,
    LANGUAGES: _is_language,
    UCUM: ucum.valid,
}
"""Systems whose codes are formed by a grammar, and its test."""

_snomed_set = re.compile(r"(http://snomed\.info/sct(?:/\d+(?:/version/\d+)?)?)\?fhir_vs(?:=(.*))?")


def implicit_value_set(url: str) -> tuple[str, str | None, str | None] | None:
    """The value set that a code system's own page defines by the form of its url; None when `url` has no such form.

    Comes back as (system, concept, form): no concept means the whole system; form is what is not understood here
    (`refset`, `ecl`, an answer list).

    Spec: R4 snomedct.html#implicit, loinc.html#implicit, ucum.html#implicit
    """
    if found := _snomed_set.fullmatch(url):
        query = unquote(found[2] or "")
        if not query:
            return SNOMED, None, None
        if query.startswith("isa/"):
            return SNOMED, query.removeprefix("isa/"), None
        return SNOMED, None, query.partition("/")[0]
    if url in (f"{LOINC}/vs", f"{LOINC}/vs/"):
        return LOINC, None, None
    if url.startswith(f"{LOINC}/vs/"):
        return LOINC, None, "an answer list or a part"
    if url == f"{UCUM}/vs":
        return UCUM, None, None
    return None


_former_hl7 = re.compile(r"http://hl7\.org/fhir/(v[23])/([A-Za-z0-9\-]+)")


def former_name(system: str) -> str | None:
    """The R4 uri of a v2 or v3 table under its uri of STU3, such as http://hl7.org/fhir/v2/0203."""
    found = _former_hl7.fullmatch(system)
    return f"http://terminology.hl7.org/CodeSystem/{found[1]}-{found[2]}" if found else None
