"""Accept, _format and Prefer to what the interactions and the renderer understand. R4 http.html#mime-type, #return,
#general.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, Literal

from fhir_server.errors import BadRequest, NotAcceptable, UnsupportedMediaType

Format = Literal["json", "xml"]

JSON_TYPE: Final = "application/fhir+json; charset=UTF-8"
XML_TYPE: Final = "application/fhir+xml; charset=UTF-8"
CONTENT_TYPES: Final[dict[str, str]] = {"json": JSON_TYPE, "xml": XML_TYPE}

_FORMATS: Final[dict[str, Format]] = {
    "json": "json",
    "application/json": "json",
    "application/fhir+json": "json",
    "application/json+fhir": "json",
    "text/json": "json",
    # A browser asks for HTML; it gets JSON, which it can show.
    "html": "json",
    "text/html": "json",
    "application/xhtml+xml": "json",
    "xml": "xml",
    "application/xml": "xml",
    "application/fhir+xml": "xml",
    "application/xml+fhir": "xml",
    "text/xml": "xml",
}

_WILDCARDS: Final = {"*/*": "json", "application/*": "json", "text/*": "json", "*": "json"}

_BODY_FORMATS: Final[dict[str, str]] = {
    name: form for name, form in _FORMATS.items() if "/" in name and "html" not in name
}

VERSIONS: Final = ("4.0", "4.0.1")

_QUALITY: Final = re.compile(r"(?:0(?:\.\d{0,3})?|1(?:\.0{0,3})?)\Z")
_CHARSETS: Final = ("utf-8", "utf8")


def media_type(text: str) -> tuple[str, dict[str, str]]:
    """Type in lower case, and its parameters."""
    name, *rest = text.split(";")
    parameters: dict[str, str] = {}
    for part in rest:
        key, _, value = part.partition("=")
        parameters[key.strip().lower()] = value.strip().strip('"')
    return name.strip().lower(), parameters


def _version_served(parameters: dict[str, str]) -> bool:
    return parameters.get("fhirversion", "4.0") in VERSIONS


@lru_cache(maxsize=512)
def accepted(accept: str) -> Format:
    """The format that an Accept header prefers. Raises NotAcceptable (406) when it accepts none that is offered."""
    if not accept.strip():
        return "json"
    best: tuple[float, int, Format] | None = None
    for position, part in enumerate(accept.split(",")):
        name, parameters = media_type(part)
        form = _FORMATS.get(name) or _WILDCARDS.get(name)
        quality = parameters.get("q", "1")
        weight = float(quality) if _QUALITY.match(quality) else 0.0
        if form is None or weight == 0.0 or not _version_served(parameters):
            continue
        # A concrete type beats a wildcard of the same weight; then the first one wins.
        rank = (weight, -position - (1000 if name in _WILDCARDS else 0), form)
        if best is None or rank[:2] > best[:2]:
            best = rank  # type: ignore[assignment]
    if best is None:
        raise NotAcceptable("application/fhir+json and application/fhir+xml (fhirVersion 4.0) are offered.")
    return best[2]


@lru_cache(maxsize=512)
def named(text: str) -> Format:
    """The format that `_format` names. Raises NotAcceptable (406) for an unknown one.

    An unescaped + of ``application/fhir+json`` arrives as a blank; clients do that.
    """
    name, parameters = media_type(text.strip().replace("fhir json", "fhir+json").replace("fhir xml", "fhir+xml"))
    form = _FORMATS.get(name)
    if form is None or not _version_served(parameters):
        raise NotAcceptable("`_format` must be json, xml, application/fhir+json or application/fhir+xml.")
    return form


@lru_cache(maxsize=512)
def body_format(content_type: str) -> str:
    """ "json", "xml" or "" for a Content-Type that is not FHIR's.

    Raises UnsupportedMediaType (415) for another fhirVersion or charset.
    """
    name, parameters = media_type(content_type)
    form = _BODY_FORMATS.get(name, "")
    if form:
        if not _version_served(parameters):
            raise UnsupportedMediaType("Bodies are read as fhirVersion 4.0 only.")
        if parameters.get("charset", "utf-8").lower() not in _CHARSETS:
            raise UnsupportedMediaType("Bodies are read as UTF-8 only.")
    return form


@lru_cache(maxsize=256)
def prefer(text: str) -> tuple[str | None, str]:
    """(return preference or None, handling) of a Prefer header. RFC 7240; unknown preferences are ignored, as it
    says.
    """
    wanted: str | None = None
    handling = "lenient"
    for part in re.split("[,;]", text):
        key, _, value = part.partition("=")
        key, value = key.strip().lower(), value.strip().strip('"')
        if key == "return" and value.lower() in ("minimal", "representation", "operationoutcome"):
            wanted = "OperationOutcome" if value.lower() == "operationoutcome" else value.lower()
        elif key == "handling" and value in ("strict", "lenient"):
            handling = value
    return wanted, handling


def pretty(text: str) -> bool:
    """The value of `_pretty`. Raises BadRequest unless it is true or false."""
    if text not in ("true", "false"):
        raise BadRequest("`_pretty` must be true or false.", code="value")
    return text == "true"


@lru_cache(maxsize=512)
def accepts_gzip(accept_encoding: str) -> bool:
    """Whether an Accept-Encoding allows gzip."""
    for part in accept_encoding.split(","):
        name, parameters = media_type(part)
        if name in ("gzip", "*", "x-gzip"):
            return not re.match(r"0(\.0*)?\Z", parameters.get("q", "1"))
    return False
