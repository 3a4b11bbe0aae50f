"""XML bytes to the same dicts as `jsonformat.parse` gives, and back. R4 xml.html.

`parse` reads with expat and builds JSON while it reads, so depth costs no recursion. Document types, and with them
entities, are refused. A narrative's ``div`` is taken over as it stands in the text, byte for byte. Comments and
white space between elements are dropped. What elements may hold is the validator's matter; here only names and
attributes are checked, because JSON would have no place for others.

`encode` writes elements in the order of R4's StructureDefinitions. JSON -> XML -> JSON gives equal content; only the
order of members may differ from what was sent.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any, Final
from xml.parsers import expat

from fhir_server.definitions import resource_types, structures
from fhir_server.errors import BadRequest
from fhir_server.resources.jsonformat import FhirDecimal
from fhir_server.resources.narrative import XHTML

FHIR: Final = "http://hl7.org/fhir"
_XSI: Final = "http://www.w3.org/2001/XMLSchema-instance"
MAX_DEPTH: Final = 500

_TYPES: Final = frozenset(resource_types())
_INTEGER: Final = re.compile(r"-?(0|[1-9][0-9]{0,20})")
_DECIMAL: Final = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_SHOWN: Final = re.compile(r"[A-Za-z][A-Za-z0-9]{0,63}\Z")


@dataclass(frozen=True, slots=True)
class _Member:
    """How one JSON member is written as XML."""

    key: str
    order: int
    many: bool
    #: "primitive", "complex", "resource", "xhtml" or "attribute"
    form: str
    #: the primitive type, or the owner of the elements of a complex one
    type_name: str


@cache
def _members(owner: str) -> dict[str, _Member]:
    """XML name or attribute (which is the JSON name as well) -> member."""
    result: dict[str, _Member] = {}
    for order, (name, element) in enumerate(structures()[owner]["elements"].items()):
        for type_name in element["types"] or [""]:
            key = name + type_name[0].upper() + type_name[1:] if element.get("choice") else name
            kind = structures()[type_name]["kind"] if type_name in structures() else ""
            if element.get("xml"):
                form = "attribute" if element["xml"] == "attr" else "xhtml"
            elif type_name == "Resource":
                form = "resource"
            else:
                form = "primitive" if kind == "primitive" else "complex"
            result[key] = _Member(key, order, element["max"] != 1, form, element.get("ref") or type_name)
    return result


# --- reading ----------------------------------------------------------------------------------------------------------


class _Frame:
    """An open element."""

    __slots__ = ("at", "has_value", "lists", "member", "name", "owner", "slot", "value")

    def __init__(self, name: str, member: _Member | None, owner: str, at: str) -> None:
        self.name = name
        self.member = member
        #: The type whose elements may follow; "" inside a slot for a resource.
        self.owner = owner
        #: The object: a resource or complex value, or id and extensions of a primitive.
        self.slot: dict[str, Any] = {}
        #: Members of repeating primitives, whose arrays are evened out at the end.
        self.lists: list[str] = []
        self.value: Any = None
        self.has_value = False
        #: FHIRPath of the element, for messages.
        self.at = at


def parse(data: bytes) -> dict[str, Any]:
    """The resource of an XML document, as the dict that its JSON would give; decimals keep their literal.

    Raises BadRequest (400) for anything but one well-formed resource in UTF-8: unknown elements, attributes and
    namespaces, text outside narratives, document types and processing instructions.
    """
    return _Reader(data).read()


class _Reader:
    """One pass over one document."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.stack: list[_Frame] = []
        self.root: dict[str, Any] | None = None
        #: Depth inside a narrative, and where its div began.
        self.inside_div = 0
        self.div_start = 0
        self.div_has_content = False
        self.parser = expat.ParserCreate("utf-8", " ")
        self.parser.StartElementHandler = self.start
        self.parser.EndElementHandler = self.end
        self.parser.CharacterDataHandler = self.characters
        self.parser.StartDoctypeDeclHandler = self.refuse_doctype
        self.parser.ProcessingInstructionHandler = self.refuse_instruction
        self.parser.XmlDeclHandler = self.declaration

    def read(self) -> dict[str, Any]:
        try:
            self.data.decode()
            self.parser.Parse(self.data, True)
        except UnicodeDecodeError:
            raise BadRequest("The body is not valid UTF-8.", code="structure") from None
        except expat.ExpatError as error:
            where = f"line {error.lineno}, column {error.offset}"
            message = f"The body is not well-formed XML: {expat.ErrorString(error.code)} ({where})."
            raise BadRequest(message, code="structure") from None
        assert self.root is not None
        return self.root

    def refuse_doctype(self, *_: object) -> None:
        raise BadRequest("A document type declaration is not accepted (xml.html).", code="structure")

    def refuse_instruction(self, *_: object) -> None:
        if not self.inside_div:
            raise BadRequest("Processing instructions are not accepted.", code="structure")

    def declaration(self, version: str, encoding: str | None, standalone: int) -> None:
        if encoding is not None and encoding.lower() not in ("utf-8", "utf8"):
            raise BadRequest("FHIR is written in UTF-8 (xml.html).", code="structure")

    def fail(self, message: str) -> None:
        raise BadRequest(message, expression=self.stack[-1].at if self.stack else (), code="structure")

    def start(self, qualified: str, attributes: dict[str, str]) -> None:
        if self.inside_div:
            self.inside_div += 1
            self.div_has_content = True
            return
        namespace, _, name = qualified.rpartition(" ")
        if not self.stack:
            self.start_root(namespace, name, attributes)
            return
        if len(self.stack) > MAX_DEPTH:
            raise BadRequest("The body is nested too deeply.", code="too-long")
        top = self.stack[-1]
        if not top.owner:
            self.start_resource(top, namespace, name, attributes)
            return
        member = _members(top.owner).get(name)
        if member is None or member.form == "attribute" or namespace != (XHTML if member.form == "xhtml" else FHIR):
            shown = f"`{name}`" if _SHOWN.match(name) else "An element"
            self.fail(f"{shown} is not an element of `{top.name}` in R4's namespace.")
        elif member.form == "xhtml":
            self.inside_div = 1
            self.div_has_content = False
            self.div_start = self.parser.CurrentByteIndex
        else:
            self.open(top, member, name, attributes)

    def start_root(self, namespace: str, name: str, attributes: dict[str, str]) -> None:
        if namespace != FHIR or name not in _TYPES:
            self.fail(f"The root has to be a resource of R4 in the namespace {FHIR}.")
        if any(not key.startswith(_XSI) for key in attributes):
            self.fail("A resource has no attributes.")
        frame = _Frame(name, None, name, name)
        frame.slot["resourceType"] = name
        self.stack.append(frame)

    def start_resource(self, top: _Frame, namespace: str, name: str, attributes: dict[str, str]) -> None:
        if namespace != FHIR or name not in _TYPES:
            self.fail("Here a resource of R4 is expected.")
        if attributes:
            self.fail("A resource has no attributes.")
        if top.slot:
            self.fail(f"`{top.name}` holds one resource.")
        top.slot["resourceType"] = name
        frame = _Frame(name, None, name, top.at)
        frame.slot = top.slot
        self.stack.append(frame)

    def open(self, top: _Frame, member: _Member, name: str, attributes: dict[str, str]) -> None:
        """Start a primitive, a complex value, or the slot of a resource."""
        values = top.slot.get(name)
        if not member.many and (values is not None or "_" + name in top.slot):
            self.fail(f"`{name}` occurs more than once.")
        at = f"{top.at}.{name}[{len(values or ())}]" if member.many else f"{top.at}.{name}"
        frame = _Frame(name, member, "" if member.form == "resource" else member.type_name, at)
        allowed = _members(member.type_name) if frame.owner else {}
        for attribute, value in attributes.items():
            if attribute == "value" and member.form == "primitive":
                frame.value, frame.has_value = _json_value(member.type_name, value), True
            elif attribute in allowed and allowed[attribute].form == "attribute":
                frame.slot[attribute] = value
            else:
                self.stack.append(frame)
                self.fail(f"`{name}` has an attribute that R4 does not know.")
        self.stack.append(frame)

    def end(self, _: str) -> None:
        if self.inside_div:
            self.inside_div -= 1
            if not self.inside_div:
                self.end_div()
            return
        frame = self.stack.pop()
        for key in frame.lists:
            _even_out(frame.slot, key)
        member = frame.member
        if member is None:
            if not self.stack:
                self.root = frame.slot
            return
        parent = self.stack[-1]
        if member.form == "primitive":
            _add_primitive(parent, member, frame)
        elif member.many:
            parent.slot.setdefault(member.key, []).append(frame.slot)
        else:
            parent.slot[member.key] = frame.slot

    def end_div(self) -> None:
        """Take the text from the div's start tag to its end tag, which for ``<div/>`` is no tag of its own."""
        index = self.parser.CurrentByteIndex
        is_empty = not self.div_has_content and self.data[index - 2 : index] == b"/>"
        end = index if is_empty else self.data.index(b">", index) + 1
        text = self.data[self.div_start : end].decode()
        top = self.stack[-1]
        if "div" in top.slot:
            self.fail("`div` occurs more than once.")
        top.slot["div"] = _with_namespace(text)

    def characters(self, text: str) -> None:
        if self.inside_div:
            self.div_has_content = True
        elif not text.isspace():
            self.fail("Text is only allowed in narratives; values are in the attribute `value`.")


_DIV_START: Final = re.compile(r"""<(?:([^\s:/>]+):)?div((?:\s+[^\s=]+\s*=\s*(?:"[^"]*"|'[^']*'))*)""")


def _with_namespace(text: str) -> str:
    """The div with the declaration of its namespace, which may have stood on an element around it."""
    match = _DIV_START.match(text)
    assert match is not None
    declaration = f"xmlns:{match[1]}" if match[1] else "xmlns"
    if re.search(rf"\s{re.escape(declaration)}\s*=", match[2]):
        return text
    return f'{text[: match.start(2)]} {declaration}="{XHTML}"{text[match.start(2) :]}'


def _json_value(type_name: str, text: str) -> Any:
    """The JSON value of a ``value`` attribute; text that is no value of its type stays text, for the validator to

    refuse.
    """
    if type_name == "boolean":
        return {"true": True, "false": False}.get(text, text)
    if type_name in ("integer", "positiveInt", "unsignedInt"):
        if _INTEGER.fullmatch(text):
            return FhirDecimal(text) if text == "-0" else int(text)
    elif type_name == "decimal" and _DECIMAL.fullmatch(text):
        return int(text) if len(text) < 1000 and text.lstrip("-").isdigit() and text != "-0" else FhirDecimal(text)
    return text


def _add_primitive(parent: _Frame, member: _Member, frame: _Frame) -> None:
    sibling = "_" + member.key
    if member.many:
        if member.key not in parent.slot:
            parent.slot[member.key], parent.slot[sibling] = [], []
            parent.lists.append(member.key)
        parent.slot[member.key].append(frame.value)
        parent.slot[sibling].append(frame.slot or None)
        return
    if frame.has_value:
        parent.slot[member.key] = frame.value
    if frame.slot or not frame.has_value:
        # An element with nothing at all becomes {}, which the validator refuses.
        parent.slot[sibling] = frame.slot


def _even_out(slot: dict[str, Any], key: str) -> None:
    """Drop the array of values or the array of extensions when it holds nothing but null."""
    values, siblings = slot[key], slot["_" + key]
    if all(item is None for item in siblings):
        del slot["_" + key]
    elif all(item is None for item in values):
        del slot[key]


# --- writing ----------------------------------------------------------------------------------------------------------

_FORBIDDEN: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_ESCAPES: Final = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\t": "&#9;", "\n": "&#10;", "\r": "&#13;"}
)


def encode(resource: dict[str, Any], pretty: bool = False) -> bytes:
    """The XML document of a resource, in UTF-8, elements in R4's order. `pretty` indents by two blanks, narratives
    excepted.

    Characters that XML cannot hold (U+FFFE, U+FFFF) are written as U+FFFD.
    """
    writer = _Writer(pretty)
    writer.out.append('<?xml version="1.0" encoding="UTF-8"?>')
    writer.resource(resource, f' xmlns="{FHIR}"', 0)
    if pretty:
        writer.out.append("\n")
    return "".join(writer.out).encode()


def _quoted(value: Any) -> str:
    """A primitive value as an attribute's value."""
    if value is True or value is False:
        return '"true"' if value else '"false"'
    if type(value) is FhirDecimal:
        return f'"{value.text}"'
    text = str(value).translate(_ESCAPES)
    return f'"{_FORBIDDEN.sub(chr(0xFFFD), text)}"'


class _Writer:
    """Collects the pieces of one document."""

    def __init__(self, pretty: bool) -> None:
        self.out: list[str] = []
        self.pretty = pretty

    def indent(self, depth: int) -> None:
        if self.pretty:
            self.out.append("\n" + "  " * depth)

    def resource(self, o: dict[str, Any], namespace: str, depth: int) -> None:
        name = o["resourceType"]
        self.indent(depth)
        self.out.append(f"<{name}{namespace}")
        self.content(o, name, name, depth)

    def element(self, name: str, o: dict[str, Any], owner: str, depth: int) -> None:
        self.indent(depth)
        self.out.append(f"<{name}")
        self.content(o, owner, name, depth)

    def content(self, o: dict[str, Any], owner: str, name: str, depth: int, value: Any = None) -> None:
        """Attributes, children and the end tag of an element whose start tag is open."""
        members = _members(owner)
        present = {members[key.lstrip("_")] for key in o if key in members or key[0] == "_"}
        ordered = sorted(present, key=lambda member: member.order)
        for member in ordered:
            if member.form == "attribute":
                self.out.append(f" {member.key}={_quoted(o[member.key])}")
        if value is not None:
            self.out.append(f" value={_quoted(value)}")
        children = [member for member in ordered if member.form != "attribute"]
        if not children:
            self.out.append("/>")
            return
        self.out.append(">")
        for member in children:
            self.child(member, o, depth + 1)
        self.indent(depth)
        self.out.append(f"</{name}>")

    def child(self, member: _Member, o: dict[str, Any], depth: int) -> None:
        key = member.key
        if member.form == "primitive":
            values, siblings = o.get(key), o.get("_" + key)
            if not member.many:
                values, siblings = [values], [siblings]
            length = max(len(values or ()), len(siblings or ()))
            for index in range(length):
                value = values[index] if values and index < len(values) else None
                sibling = siblings[index] if siblings and index < len(siblings) else None
                self.indent(depth)
                self.out.append(f"<{key}")
                self.content(sibling or {}, member.type_name, key, depth, value)
            return
        if member.form == "xhtml":
            self.indent(depth)
            self.out.append(o[key])
            return
        for item in o[key] if member.many else [o[key]]:
            if member.form == "complex":
                self.element(key, item, member.type_name, depth)
            else:
                self.indent(depth)
                self.out.append(f"<{key}>")
                self.resource(item, "", depth + 1)
                self.indent(depth)
                self.out.append(f"</{key}>")
