"""A load of the Synthea patients, interrupted and repeated, ends with exactly the right resources."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path

import pytest

from fhir_server.storage.protocol import Store
from hestia.composition import connect
from tests.cli.conftest import SYNTHEA
from tests.support.command_line import run, start, wait_until


def counts_of_versions(store: Store) -> tuple[Counter[str], int]:
    """Resources per type by their versions, and how many versions are not the first."""
    found: Counter[str] = Counter()
    later, after = 0, ("", 0)
    while page := store.scan_versions(after=after):
        for one in page:
            found[one.type] += one.version == 1
            later += one.version > 1
        after = (page[-1].address, page[-1].version)
    return found, later


def kill_when(arguments: list[str | Path], cwd: Path, store: Store, resources: int) -> None:
    """Runs `hestia load` in a process and kills it as soon as so many resources are there."""
    process = start(arguments, cwd)
    try:
        wait_until(lambda: sum(store.counts().values()) >= resources, pause_s=0.005)
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait(20)
        assert process.stdout is not None
        process.stdout.close()
    assert process.returncode == -signal.SIGKILL


@pytest.mark.slow
def test_synthea_killed_half_way_and_repeated_gives_exactly_its_resources(
    synthea: Path, sqlite_uri: str, directory: Path
) -> None:
    store = connect(sqlite_uri)
    arguments: list[str | Path] = ["load", synthea, "--store", sqlite_uri]
    kill_when(arguments, directory, store, 1500)
    half = sum(store.counts().values())
    kill_when(arguments, directory, store, 5000)
    assert 1500 <= half < sum(store.counts().values()) < 8602
    output = run(*arguments).output
    assert "Bundles had been executed before" in output
    assert store.counts() == SYNTHEA
    assert sum(SYNTHEA.values()) == 8602
    again = run(*arguments).output
    assert "0 resources written, 8,602 were there already, 42 Bundles had been executed before." in again
    assert counts_of_versions(store) == (Counter(SYNTHEA), 0)
    store.close()
    assert "The store is sound." in run("check", "--store", sqlite_uri).output


@pytest.mark.slow
def test_synthea_killed_and_repeated_on_mongodb(synthea: Path, mongo_database: str, directory: Path) -> None:
    files = sorted(synthea.glob("*.json.gz"), key=lambda path: path.stat().st_size)[:6]
    reference = f"sqlite:///{directory / 'reference.db'}"
    run("load", *files, "--store", reference)
    expected = connect(reference)
    store = connect(mongo_database)
    arguments: list[str | Path] = ["load", *files, "--store", mongo_database]
    kill_when(arguments, directory, store, 1)
    assert 0 < sum(store.counts().values()) < sum(expected.counts().values())
    run(*arguments)
    assert store.counts() == expected.counts()
    assert "0 resources written" in run(*arguments).output
    assert counts_of_versions(store) == counts_of_versions(expected)
    store.close()
    expected.close()
