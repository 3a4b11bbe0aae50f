"""What a narrative may contain. R4 narrative.html#xhtml, invariants txt-1 and txt-2.

`check(text)` reads the XHTML of Narrative.div with expat, which sees it as a browser's XML parser does: character
references in attribute values are resolved before a URL or a style is judged. The text itself is never changed.

Elements and attributes are those of HTML 4.0 chapters 7 to 11 (except 9.4) and 15, ``a``, ``img`` and maps,
``style`` attributes: what txt-1 names. Its list of attributes has deprecated ones too (``start``, ``bgcolor``,
``compact``). Scripts, forms, frames, objects, event attributes, deprecated elements and SVG are refused without being
listed. Beyond txt-1, a URL must not run code, and a style must not load anything but an image that it carries itself.
"""

from __future__ import annotations

import re
from typing import Final, Literal
from xml.parsers import expat

XHTML: Final = "http://www.w3.org/1999/xhtml"
_XML: Final = "http://www.w3.org/XML/1998/namespace"

Fault = Literal["syntax", "txt-1", "txt-2"]
"""syntax: not well-formed XML. txt-1: content that is not allowed. txt-2: no content."""

_PLAIN = (
    "abbr acronym address b big bdo blockquote br caption cite code col colgroup dd dfn div dl dt em h1 h2 h3 h4"
    " h5 h6 hr i kbd li ol p pre q samp small span strong sub sup table tbody td tfoot th thead tr tt ul var"
)
_COMMON = frozenset(("accesskey", "class", "dir", "id", "lang", "style", "tabindex", "title")) | {
    f"{_XML} lang",
    f"{_XML} space",
}
_CELLS = (
    "align bgcolor cellhalign cellvalign char charoff valign"
    " abbr axis headers scope rowspan colspan width height nowrap"
)
_ALIGNED = "caption div h1 h2 h3 h4 h5 h6 p"
_OWN: Final = {
    **dict.fromkeys(_ALIGNED.split(), "align"),
    "a": "charset coords href hreflang name rel rev shape target type",
    "area": "alt coords href nohref shape target",
    "blockquote": "cite",
    "col": "align char charoff span valign width",
    "colgroup": "align char charoff span valign width",
    "dl": "compact",
    "hr": "align width",
    "img": "alt border height ismap longdesc src usemap width align hspace vspace",
    "li": "type value",
    "map": "name",
    "ol": "compact start type",
    "pre": "space width",
    "q": "cite",
    "table": "align bgcolor border cellpadding cellspacing frame rules summary width",
    "tbody": "align char charoff valign",
    "td": _CELLS,
    "tfoot": "align char charoff valign",
    "th": _CELLS,
    "thead": "align char charoff valign",
    "tr": "align bgcolor char charoff valign",
    "ul": "compact type",
}
_ALLOWED: Final[dict[str, frozenset[str]]] = {
    f"{XHTML} {name}": _COMMON | set(_OWN.get(name, "").split())
    for name in [*_PLAIN.split(), "a", "area", "img", "map"]
}
_URLS: Final = frozenset({"href", "src", "cite", "longdesc", "usemap"})
_CODE_SCHEMES: Final = ("javascript:", "vbscript:", "livescript:", "mocha:", "data:")
_IMAGE: Final = re.compile(r"data:\s*image/(?!svg)[a-z0-9.+-]+[;,]")
_IGNORED_IN_URLS: Final = re.compile("[\x00-\x20\x7f-\xa0\u200b-\u200f\u2028\u2029\ufeff]")

_CSS_COMMENT: Final = re.compile(r"/\*.*?(?:\*/|\Z)", re.DOTALL)
_CSS_ESCAPE: Final = re.compile(r"\\(?:([0-9a-fA-F]{1,6})\s?|(.))", re.DOTALL)
_CSS_URL: Final = re.compile(r"""url\(\s*["']?\s*""")
_CSS_CODE: Final = re.compile(r"expression\s*\(|@import|behaviou?r\s*:|-moz-binding|javascript:|vbscript:|image-set|<")

_REMEMBERED_LENGTH: Final = 4_000
_REMEMBERED: Final = 2_000
_sound: Final[set[str]] = set()


def check(text: str) -> list[tuple[Fault, str]]:
    """The faults of one narrative, at most one of each kind, as (kind, message); none when it is sound.

    Messages name element or attribute when R4 knows it, and never repeat text.
    """
    if text in _sound:
        return []
    reader = _Reader()
    faults = reader.read(text)
    if not faults and len(text) < _REMEMBERED_LENGTH and len(_sound) < _REMEMBERED:
        _sound.add(text)
    return faults


class _Refused(Exception):
    """Stops the parser where reading on would be unsafe or useless."""


class _Reader:
    """One pass over one narrative."""

    def __init__(self) -> None:
        self.depth = 0
        self.has_content = False
        self.problem = ""

    def read(self, text: str) -> list[tuple[Fault, str]]:
        parser = expat.ParserCreate("utf-8", " ")
        parser.StartElementHandler = self.start
        parser.EndElementHandler = self.end
        parser.CharacterDataHandler = self.characters
        parser.StartDoctypeDeclHandler = self.refuse_declaration
        parser.EntityDeclHandler = self.refuse_declaration
        parser.ProcessingInstructionHandler = self.refuse_instruction
        parser.XmlDeclHandler = self.refuse_declaration
        try:
            parser.Parse(text.encode(), True)
        except (expat.ExpatError, UnicodeEncodeError):
            return [("syntax", "The narrative is not well-formed XHTML.")]
        except _Refused:
            pass
        if self.problem:
            return [("txt-1", self.problem)]
        if not self.has_content:
            return [("txt-2", "The narrative has no content but blanks.")]
        return []

    def fault(self, message: str) -> None:
        self.problem = self.problem or message

    def refuse_declaration(self, *_: object) -> None:
        self.fault("The narrative contains a declaration; it has to be a div element only.")
        raise _Refused

    def refuse_instruction(self, *_: object) -> None:
        self.fault("The narrative contains a processing instruction.")

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if self.depth == 0 and name != f"{XHTML} div":
            self.fault("The narrative has to be a div element in the namespace of XHTML.")
            raise _Refused
        self.depth += 1
        allowed = _ALLOWED.get(name)
        if allowed is None:
            self.fault("The narrative contains an element that narratives must not contain (narrative.html#xhtml).")
            return
        if name == f"{XHTML} img":
            self.has_content = True
        for attribute, value in attributes.items():
            if attribute not in allowed:
                self.fault(
                    "The narrative contains an attribute that narratives must not contain (narrative.html#xhtml)."
                )
            elif attribute in _URLS:
                if not _is_safe_url(value, attribute == "src"):
                    self.fault(f"The narrative contains a URL in `{attribute}` that can run code.")
            elif attribute == "style" and not _is_safe_style(value):
                self.fault("The narrative contains a style that loads or runs something.")

    def end(self, _: str) -> None:
        self.depth -= 1

    def characters(self, text: str) -> None:
        if not self.has_content and not text.isspace():
            self.has_content = True


def _is_safe_url(value: str, is_image: bool) -> bool:
    """No scheme that runs code, however it is disguised: browsers ignore blanks and control characters inside a

    scheme.
    """
    url = _IGNORED_IN_URLS.sub("", value).lower()
    if is_image and _IMAGE.match(url):
        return True
    return not url.startswith(_CODE_SCHEMES)


def _unescape(match: re.Match[str]) -> str:
    code, character = match.groups()
    if code is None:
        return str(character)
    point = int(code, 16)
    return chr(point) if point < 0x110000 else ""


def _is_safe_style(value: str) -> bool:
    """A style attribute that runs nothing and loads nothing but ``url(data:image/...)``."""
    style = _CSS_ESCAPE.sub(_unescape, _CSS_COMMENT.sub("", value)).lower()
    if _CSS_CODE.search(style) is not None:
        return False
    return all(style[m.end() :].startswith("#") or _IMAGE.match(style, m.end()) for m in _CSS_URL.finditer(style))
