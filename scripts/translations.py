"""Brings the catalogs of `smart_auth/web/translations` up to date: `python scripts/translations.py`.

New message ids are added without a translation, those that are gone are dropped, and the .mo file is compiled. What is
then missing is printed, and a test fails until it is there.
"""

from __future__ import annotations

import datetime
import io
from pathlib import Path
from typing import Final

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

PACKAGE: Final = Path(__file__).resolve().parents[1] / "smart_auth"
CATALOG: Final = PACKAGE / "web" / "translations" / "zh" / "LC_MESSAGES" / "messages.po"
_NO_DATE: Final = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
"""In the head of the .mo file, which has to be the same for the same texts."""
_METHODS: Final = [("**.py", "python"), ("**/templates/**.html", "jinja2.ext:babel_extract")]
_KEYWORDS: Final = {"_": None, "N_": None, "gettext": None, "ngettext": (1, 2), "lazy_gettext": None}


def extracted() -> Catalog:
    """All message ids of the package."""
    found = Catalog(locale="zh")
    for _file, _line, message, _comments, context in extract_from_dir(PACKAGE, _METHODS, keywords=_KEYWORDS):
        found.add(message, None, context=context)
    return found


def read() -> Catalog:
    """The catalog as it is."""
    if not CATALOG.exists():
        return Catalog(locale="zh")
    with CATALOG.open("rb") as file:
        return read_po(file, locale="zh")


def compiled(catalog: Catalog) -> bytes:
    """The .mo file of a catalog."""
    buffer = io.BytesIO()
    catalog.creation_date = catalog.revision_date = _NO_DATE
    write_mo(buffer, catalog)
    return buffer.getvalue()


def missing(catalog: Catalog) -> list[str]:
    """Message ids without a translation."""
    return [
        str(one.id)
        for one in catalog
        if one.id and not (one.string if isinstance(one.string, str) else all(one.string or [""]))
    ]


def written(catalog: Catalog) -> bytes:
    """The .po file of a catalog: sorted, without dates and places, so that it changes only when its texts do."""
    buffer = io.BytesIO()
    write_po(buffer, catalog, width=0, omit_header=True, sort_output=True, ignore_obsolete=True, include_previous=False)
    head = 'msgid ""\nmsgstr ""\n"Language: zh\\n"\n"MIME-Version: 1.0\\n"\n'
    head += '"Content-Type: text/plain; charset=utf-8\\n"\n"Plural-Forms: nplurals=1; plural=0;\\n"\n\n'
    return head.encode() + buffer.getvalue()


def main() -> None:
    catalog, template = read(), extracted()
    catalog.update(template, no_fuzzy_matching=True)
    CATALOG.write_bytes(written(catalog))
    catalog = read()
    CATALOG.with_suffix(".mo").write_bytes(compiled(catalog))
    for one in missing(catalog):
        print("no translation:", one)


if __name__ == "__main__":
    main()
