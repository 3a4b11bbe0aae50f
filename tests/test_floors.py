"""Packages that access control rests on are never older than the versions that closed their known holes."""

from __future__ import annotations

import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
FLOORS = {"authlib": "1.9.0", "pymongo": "4.18.2", "werkzeug": "3.1.6", "flask": "3.1.3", "lxml": "6.1.0"}
BELOW = {"authlib": "1.8.9", "pymongo": "4.18.1", "werkzeug": "3.1.5", "flask": "3.1.2", "lxml": "6.0.9"}
"""A version that is too old."""
LATER = {"python-socketio": "5.16.2", "eventlet": "0.40.3"}
"""In use from the portal on; until then they must not be there at all."""


@pytest.mark.parametrize("name", FLOORS)
def test_installed_and_required_versions_are_at_least_the_floor(name: str) -> None:
    assert Version(version(name)) >= Version(FLOORS[name])
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    required = [one for one in map(Requirement, project["dependencies"]) if one.name.lower() == name]
    assert len(required) == 1
    assert not required[0].specifier.contains(BELOW[name]), "The floor in pyproject.toml is too low."


@pytest.mark.parametrize("lock", ["run", "test", "dev"])
def test_pinned_versions_are_at_least_the_floor(lock: str) -> None:
    pinned = {}
    for line in (ROOT / "requirements" / f"{lock}.lock").read_text(encoding="utf-8").splitlines():
        if "==" in line and not line.startswith((" ", "#")):
            name, _, rest = line.partition("==")
            pinned[name.strip().lower()] = Version(rest.split(" ")[0])
    for name, floor in FLOORS.items():
        assert pinned[name] >= Version(floor), name
    for name, floor in LATER.items():
        assert name not in pinned or pinned[name] >= Version(floor), name
