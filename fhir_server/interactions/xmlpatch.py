"""XML Patch on resources: RFC 5261 over the XML form; R4 http.html#patch.

A selector is the part of XPath that patches of resources need: child steps with a position or a comparison with an
attribute, ``f:Patient/f:name[f:use/@value='usual']/f:given[2]/@value``. It is evaluated here and never given to an
XPath engine, whose time a stranger could spend. Narratives can be replaced as a whole; a patch does not reach into
them, and untouched ones keep their bytes.
"""

from __future__ import annotations

import re
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from lxml import etree

from fhir_server.errors import BadRequest, Unprocessable
from fhir_server.resources import xmlformat
from fhir_server.resources.narrative import XHTML

MAX_OPERATIONS = 10_000
MAX_SELECTOR = 2_000

_NAME = r"(?:[A-Za-z_][\w.\-]*:)?[A-Za-z_][\w.\-]*"
_STEP = re.compile(rf"(?P<name>{_NAME}|\*)(?P<tests>(?:\[[^\[\]]*\])*)", re.ASCII)
_TEST = re.compile(
    rf"\[\s*(?:(?P<position>[1-9]\d{{0,6}})|(?P<path>(?:{_NAME}/)*)@(?P<attribute>{_NAME})\s*=\s*(?P<value>'[^']*'|\"[^\"]*\"))\s*\]",
    re.ASCII,
)
_ATTRIBUTES_OF_FHIR = frozenset({"value", "id", "url"})


@dataclass(frozen=True, slots=True)
class _Target:
    """One element, or one attribute of it."""

    element: Any
    attribute: str | None


def apply(resource: dict[str, Any], document: bytes) -> dict[str, Any]:
    """A new resource with all operations of the XML `document` applied in order; `resource` is left as it is.

    Members come out in the order of R4's definitions, as from any XML.

    Spec:   RFC 5261; R4 http.html#patch
    Raises: BadRequest (400) when the document or a selector is malformed, or when the result is not the XML of a
    resource;
            Unprocessable (422) when a selector does not lead to exactly one place.
    """
    operations = _parse_patch(document)
    narratives: list[str] = []
    tree: Any = _parse(xmlformat.encode(_hide_narratives(resource, narratives)), trusted=True)
    for position, operation in enumerate(operations):
        tree = _apply(tree, operation, f"Operation {position + 1} of the XML Patch")
    result = xmlformat.parse(etree.tostring(_normalize(tree), encoding="utf-8"))
    _show_narratives(result, narratives)
    return result


# --- documents --------------------------------------------------------------------------------------------------------


def _parse(document: bytes, trusted: bool = False) -> Any:
    """The root element. A stored resource may be deeper and hold longer texts than libxml2 takes from strangers."""
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        remove_comments=True,
        remove_pis=True,
        huge_tree=trusted,
    )
    root: Any
    try:
        root = etree.fromstring(document, parser)
    except etree.XMLSyntaxError:
        raise BadRequest("The XML Patch is not well-formed XML.", code="structure") from None
    if root.getroottree().docinfo.doctype:
        raise BadRequest("A document type is not allowed.", code="structure")
    return root


def _parse_patch(document: bytes) -> list[Any]:
    root = _parse(document)
    if etree.QName(root).localname != "diff":
        raise BadRequest("An XML Patch is an element `diff` (RFC 5261).", code="structure")
    operations = list(root)
    if len(operations) > MAX_OPERATIONS:
        raise BadRequest(f"An XML Patch has at most {MAX_OPERATIONS:,} operations.", code="too-costly")
    return operations


def _hide_narratives(value: Any, narratives: list[str]) -> Any:
    """A copy in which a short stand-in takes the place of each narrative's div."""
    if isinstance(value, list):
        return [_hide_narratives(each, narratives) for each in value]
    if not isinstance(value, dict):
        return value
    copy = {key: _hide_narratives(each, narratives) for key, each in value.items()}
    if isinstance(value.get("div"), str):
        copy["div"] = _stand_in(len(narratives))
        narratives.append(value["div"])
    return copy


def _show_narratives(value: Any, narratives: list[str]) -> None:
    known = {_stand_in(number): text for number, text in enumerate(narratives)}
    stack = [value]
    while stack:
        each = stack.pop()
        if isinstance(each, list):
            stack += each
        elif isinstance(each, dict):
            div = each.get("div")
            if isinstance(div, str) and div in known:
                each["div"] = known[div]
            stack += each.values()


def _stand_in(number: int) -> str:
    return f'<div xmlns="{XHTML}">{number}</div>'


def _normalize(element: Any) -> Any:
    """The same tree without prefixes, which a patch may have brought in."""
    namespace = etree.QName(element).namespace
    prefixes: Any = {None: namespace} if namespace else None
    copy = etree.Element(element.tag, nsmap=prefixes)
    copy.attrib.update(element.attrib)
    copy.text, copy.tail = element.text, element.tail
    for child in element:
        copy.append(_normalize(child))
    return copy


# --- selectors --------------------------------------------------------------------------------------------------------


def _find(tree: Any, operation: Any, at: str) -> _Target:
    """The one place that `sel` leads to."""
    selector = operation.get("sel")
    if not selector or len(selector) > MAX_SELECTOR:
        raise BadRequest(f"{at} needs `sel`.", code="structure")
    text = selector.strip().removeprefix("/")
    found = [tree]
    first = True
    position = 0
    while True:
        if text[position : position + 1] == "@":
            attribute = text[position + 1 :]
            if attribute not in _ATTRIBUTES_OF_FHIR or first:
                raise BadRequest(f"{at}: the selector names an attribute that resources do not have.", code="value")
            return _Target(_single(found, at), attribute)
        step = _STEP.match(text, position)
        if step is None:
            raise BadRequest(f"{at}: the selector has a form that is not supported.", code="value")
        candidates = found if first else [child for element in found for child in element]
        found = _filter(candidates, step, operation.nsmap, at, each_parent=not first)
        first = False
        position = step.end()
        if position == len(text):
            return _Target(_single(found, at), None)
        if text[position] != "/":
            raise BadRequest(f"{at}: the selector has a form that is not supported.", code="value")
        position += 1


def _single(found: list[Any], at: str) -> Any:
    if len(found) != 1:
        number = "no element" if not found else "several elements"
        raise Unprocessable(f"{at}: the selector leads to {number}, and must lead to one.", code="not-found")
    if any(etree.QName(each).namespace == XHTML for each in found[0].iterancestors()):
        raise Unprocessable(
            f"{at} reaches into a narrative, which can only be replaced as a whole.", code="not-supported"
        )
    return found[0]


def _filter(
    candidates: list[Any], step: re.Match[str], nsmap: dict[str | None, str], at: str, each_parent: bool
) -> list[Any]:
    if step["name"] != "*":
        tag = _expand(step["name"], nsmap, at)
        candidates = [each for each in candidates if each.tag == tag]
    tests = step["tests"]
    position = 0
    while position < len(tests):
        test = _TEST.match(tests, position)
        if test is None:
            raise BadRequest(f"{at}: the selector has a condition that is not supported.", code="value")
        position = test.end()
        if test["position"] is not None:
            wanted = int(test["position"])
            counts: dict[Any, int] = {}
            kept = []
            for each in candidates:
                # A position counts among what the same parent has.
                parent = each.getparent() if each_parent else None
                counts[parent] = counts.get(parent, 0) + 1
                if counts[parent] == wanted:
                    kept.append(each)
            candidates = kept
        else:
            path = [_expand(name, nsmap, at) for name in test["path"].split("/") if name]
            value = test["value"][1:-1]
            candidates = [each for each in candidates if value in _values(each, path, test["attribute"])]
    return candidates


def _values(element: Any, path: list[str], attribute: str) -> list[str]:
    found = [element]
    for tag in path:
        found = [child for each in found for child in each if child.tag == tag]
    return [value for each in found if (value := each.get(attribute)) is not None]


def _expand(name: str, nsmap: dict[str | None, str], at: str) -> str:
    """RFC 5261, 4.2.2: prefixes, and the default namespace for names without one, are those of the patch document."""
    prefix, colon, local = name.rpartition(":")
    namespace = nsmap.get(prefix if colon else None)
    if namespace is None and colon:
        raise BadRequest(f"{at}: the selector has a prefix that is not declared.", code="value")
    return f"{{{namespace}}}{local}" if namespace else local


# --- operations -------------------------------------------------------------------------------------------------------


def _apply(tree: Any, operation: Any, at: str) -> Any:
    """The tree after one operation; another one when the root itself is replaced."""
    target = _find(tree, operation, at)
    match etree.QName(operation).localname:
        case "add":
            _add(target, operation, at)
        case "replace":
            return _replace(tree, target, operation, at)
        case "remove":
            _remove(target, at)
        case _:
            raise BadRequest(f"{at} is not add, replace or remove.", code="structure")
    return tree


def _content(operation: Any, at: str) -> list[Any]:
    """The elements that an operation brings; text between them can only be white space."""
    texts = [operation.text, *(each.tail for each in operation)]
    if any(text and text.strip() for text in texts):
        raise BadRequest(f"{at} has text where elements are expected.", code="structure")
    elements = [deepcopy(each) for each in operation]
    for each in elements:
        each.tail = None
    return elements


def _add(target: _Target, operation: Any, at: str) -> None:
    if target.attribute is not None:
        raise Unprocessable(f"{at} adds to an attribute.", code="value")
    element = target.element
    kind = operation.get("type")
    if kind is not None:
        name = kind.removeprefix("@")
        if kind[:1] != "@" or name not in _ATTRIBUTES_OF_FHIR or len(operation):
            raise BadRequest(f"{at} has a type that is not supported.", code="value")
        if name in element.attrib:
            raise Unprocessable(f"{at} adds an attribute that exists already.", code="value")
        element.set(name, operation.text or "")
        return
    content = _content(operation, at)
    match operation.get("pos"):
        case None:
            element.extend(content)
        case "prepend":
            element[:0] = content
        case "before" | "after" as where:
            parent = element.getparent()
            if parent is None:
                raise Unprocessable(f"{at} adds beside the resource.", code="value")
            start = parent.index(element) + (where == "after")
            parent[start:start] = content
        case _:
            raise BadRequest(f"{at} has a `pos` that RFC 5261 does not know.", code="value")


def _replace(tree: Any, target: _Target, operation: Any, at: str) -> Any:
    element = target.element
    if target.attribute is not None:
        if target.attribute not in element.attrib:
            raise Unprocessable(f"{at} replaces an attribute that does not exist.", code="not-found")
        if len(operation):
            raise BadRequest(f"{at} has elements where text is expected.", code="structure")
        element.set(target.attribute, operation.text or "")
        return tree
    content = _content(operation, at)
    if len(content) != 1:
        raise BadRequest(f"{at} replaces an element by exactly one.", code="structure")
    parent = element.getparent()
    if parent is None:
        return content[0]
    parent.replace(element, content[0])
    return tree


def _remove(target: _Target, at: str) -> None:
    element = target.element
    if target.attribute is not None:
        if element.attrib.pop(target.attribute, None) is None:
            raise Unprocessable(f"{at} removes an attribute that does not exist.", code="not-found")
        return
    parent = element.getparent()
    if parent is None:
        raise Unprocessable(f"{at} removes the whole resource.", code="value")
    parent.remove(element)
