"""Index entries as `extract` makes them and stores hold them; the layout is `ast`'s and docs/architecture.md's."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

KeyEntry: TypeAlias = tuple[int, str]
"""(param, key)"""
RangeEntry: TypeAlias = tuple[int, str, int | str, int | str, str]
"""(param, key, low, high, unit)"""


@dataclass(slots=True)
class Document:
    """Index entries of one resource, or of one resource contained in it (then `address` is ``Type/id#local``)."""

    address: str
    type: str
    keys: list[KeyEntry] = field(default_factory=list)
    ranges: list[RangeEntry] = field(default_factory=list)
