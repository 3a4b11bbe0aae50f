"""Every test of this directory runs on both stores of records. `open_it` opens one more store object on the database
of the test, as another worker would; `clock` is what all of them read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from smart_auth.store.protocol import AuthStore
from tests.support.accounts import AuthClock
from tests.support.records import NAMES, Opener, stores


@pytest.fixture
def clock() -> AuthClock:
    return AuthClock()


@pytest.fixture(params=NAMES)
def open_it(request: pytest.FixtureRequest, tmp_path: Path, clock: AuthClock) -> Iterator[Opener]:
    with stores(request.param, tmp_path, clock) as opener:
        yield opener


@pytest.fixture
def store(open_it: Opener) -> AuthStore:
    """An empty store."""
    return open_it()
