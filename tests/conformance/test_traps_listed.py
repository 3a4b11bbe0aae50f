"""docs/r4-traps.md names a test that exists for every trap, but for those that wait for later issues."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PENDING = {115: "bookings"}


def rows() -> dict[int, str]:
    """Number of a trap -> its row."""
    text = (ROOT / "docs" / "r4-traps.md").read_text(encoding="utf-8")
    found = re.findall(r"^\| (\d+) \|(.*)\|$", text, re.MULTILINE)
    assert len(found) == len({number for number, _ in found})
    return {int(number): row for number, row in found}


def test_every_trap_is_listed_once() -> None:
    assert sorted(rows()) == list(range(1, 116))


def test_every_named_test_exists() -> None:
    missing = []
    for number, row in rows().items():
        named = re.findall(r"`([a-z_/0-9]+\.py)::(test_[a-z_0-9]+)`", row)
        if not named:
            assert number == 115
        for path, name in named:
            file = ROOT / "tests" / path
            if not file.is_file() or f"\ndef {name}(" not in file.read_text(encoding="utf-8"):
                missing.append(f"{number}: {path}::{name}")
    assert missing == []


def test_only_what_later_issues_bring_is_pending() -> None:
    found = {number: row.partition("pending: ")[2] for number, row in rows().items() if "pending" in row}
    assert found.keys() == PENDING.keys()
    assert all(PENDING[number] in text for number, text in found.items())
