"""Runs `hestia` as people do: in process where that is enough, as processes of their own where signals matter."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
from click.testing import CliRunner, Result

from hestia.cli import main
from tests.support import mongodb

ROOT = Path(__file__).resolve().parents[2]

SMALL = """
import functools, sys
import seed
seed.bundles = functools.partial(seed.bundles, patients=2)
if __name__ == "__main__":
    from hestia.cli import main
    main(prog_name="hestia")
"""
"""`hestia` with a demo hospital of two patients, which loads faster."""


def run(*arguments: str | Path, status: int = 0, **variables: str) -> Result:
    """Runs a command in this process, with these variables and no others of ours; it has to end with `status`."""
    env: dict[str, str | None] = {name: None for name in os.environ if name.startswith("HESTIA_")}
    result = CliRunner().invoke(main, [str(one) for one in arguments], env={**env, **variables})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == status, result.output
    assert "Traceback" not in result.output
    return result


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without settings of ours, and with these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HESTIA_")}
    path = os.pathsep.join(filter(None, (str(ROOT), kept.get("PYTHONPATH"))))
    return {**kept, "PYTHONPATH": path, **variables}


def start(
    arguments: Sequence[str | Path], cwd: Path, *, small_demo: bool = False, **variables: str
) -> subprocess.Popen[str]:
    """A `hestia` process in a process group of its own; standard error goes with standard output."""
    program = ["-m", "hestia"]
    if small_demo:
        script = cwd / "small_demo.py"
        script.write_text(SMALL)
        program = [str(script)]
    return subprocess.Popen(
        [sys.executable, *program, *map(str, arguments)],
        cwd=cwd,
        env=environment(variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def wait_until(condition: Callable[[], Any], timeout_s: float = 60.0, pause_s: float = 0.02) -> Any:
    """The first true value of `condition`; fails after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(pause_s)
    raise AssertionError(f"Nothing came in {timeout_s:g} s.")


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Serving:
    """A `hestia serve` of a test; killed at the end whatever happens. Without access control unless `auth` is "on"."""

    def __init__(
        self, cwd: Path, store: str, *, small_demo: bool = False, workers: int = 2, port: int = 0, auth: str = "off"
    ) -> None:
        self.port = port or free_port()
        self.base = f"http://127.0.0.1:{self.port}/fhir"
        self.process = start(
            ["serve"],
            cwd,
            small_demo=small_demo,
            HESTIA_STORE=store,
            HESTIA_PORT=str(self.port),
            HESTIA_WORKERS=str(workers),
            HESTIA_DEMO="on" if small_demo else "off",
            HESTIA_LOG="quiet",
            HESTIA_AUTH=auth,
        )

    def __enter__(self) -> Serving:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.signal(signal.SIGKILL)
        self.process.wait(20)
        if self.process.stdout is not None:
            self.process.stdout.close()

    def ready(self, timeout_s: float = 90.0) -> Serving:
        """Waits until it answers."""

        def answers() -> bool:
            assert self.process.poll() is None, self.process.stdout.read() if self.process.stdout else ""
            try:
                return httpx.get(f"http://127.0.0.1:{self.port}/health", timeout=20).status_code == 200
            except httpx.HTTPError:
                return False

        wait_until(answers, timeout_s)
        return self

    def signal(self, number: int, *, group: bool = True) -> None:
        """Signals the whole group, as a terminal's Ctrl-C does, or the main process alone."""
        if group:
            os.killpg(self.process.pid, number)
        else:
            self.process.send_signal(number)

    def ended(self, timeout_s: float = 30.0) -> str:
        """Waits for its end and returns what it said."""
        said, _ = self.process.communicate(timeout=timeout_s)
        return said


def mongo_uri(database: str, server: mongodb.Server | None = None) -> str:
    """The URI of a database on the server of the test run, or on another."""
    head, mark, options = (server or mongodb.server()).uri.partition("?")
    return f"{head.rstrip('/')}/{database}{mark}{options}"
