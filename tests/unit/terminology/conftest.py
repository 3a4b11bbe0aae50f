"""What the tests of terminology share: the packaged tables, read once."""

from __future__ import annotations

import pytest

from terminology import Local


@pytest.fixture(scope="session")
def packaged() -> Local:
    return Local()
