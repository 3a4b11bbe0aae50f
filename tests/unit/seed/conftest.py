"""The fixture of the generated demo hospital."""

from __future__ import annotations

import pytest

from tests.unit.seed.seed_demo import Demo


@pytest.fixture(scope="session")
def demo() -> Demo:
    """The default demo hospital."""
    return Demo()
