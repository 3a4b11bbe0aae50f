"""docs/access-control.md says what the shipped policies are."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from fhir_server.access import policies
from fhir_server.access.compile import SENSITIVE
from fhir_server.context import Settings

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "access-control.md").read_text(encoding="utf-8")
SHIPPED = json.loads((ROOT / "fhir_server" / "access" / "default_policies.json").read_text(encoding="utf-8"))


def row(rule: dict[str, Any]) -> str:
    """A rule as the document writes it."""
    if "breakGlass" in rule:
        return "| – | – | may break the glass |"
    names = ", ".join(rule["types"])
    if rule["types"] == ["*"]:
        names = "all but " + ", ".join(rule["except"]) if "except" in rule else "all"
    which = [f"about `{rule['compartment']}`"] if "compartment" in rule else []
    which += [f"`{rule['criteria']}`"] if "criteria" in rule else []
    which += [f"up to `{rule['confidentiality']}`"] if "confidentiality" in rule else []
    which += ["whatever Consents say"] if rule.get("consent") is False else []
    return f"| {names} | {rule['interactions']} | {'; '.join(which) or 'the whole hospital'} |"


def test_every_rule_of_every_role_is_in_its_table() -> None:
    assert set(SHIPPED) == {"everyone", *policies.ROLES}
    for role, rules in SHIPPED.items():
        section = re.split(r"\n##+ ", TEXT.partition(f"\n### {role}\n")[2])[0]
        rows = [line for line in section.splitlines() if line.startswith("| ")][2:]
        assert rows == [row(rule) for rule in rules], role


def test_variables_and_members_are_all_explained() -> None:
    for name in policies.VARIABLES | policies._MEMBERS:
        assert f"`{name}`" in TEXT, name


def test_numbers_are_those_of_the_code() -> None:
    settings = Settings()
    assert f"for {settings.break_glass_s // 60} minutes" in TEXT
    assert f"At most {settings.break_glass_per_day} times" in TEXT
    assert f"at most {settings.treatment_days} days ago" in TEXT
    assert f"v3-ActCode: {', '.join(SENSITIVE[:14])} ..." in TEXT
