"""Says at the end of every run which MongoDB server it used, whatever the number of test processes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support import mongodb

_seen: set[str] = set()


_module: list[Any] = [None]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """A module of tests begins; those before have closed their stores."""
    module = item.getparent(pytest.Module)
    if module is not _module[0]:
        _module[0] = module
        mongodb.renew()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A test process of xdist hands its server's name to the process that prints."""
    server = mongodb._server
    if server is None:
        return
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["mongodb"] = server.name
    else:
        _seen.add(server.name)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object | None) -> None:
    """A test process of xdist has ended."""
    name = getattr(node, "workeroutput", {}).get("mongodb")
    if name:
        _seen.add(name)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    terminalreporter.write_line(f"MongoDB server of this run: {', '.join(sorted(_seen)) or 'none was needed'}")
