"""`python -m bench`: one table per store, or for any FHIR base with `--base`."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from bench.corpus import PER_BUNDLE, Corpus
from bench.driver import Result, Target
from bench.steps import STEPS, Loaded, load, measure

INGEST_TARGET = 2_300
DISK_TARGET = 2_500
MEMORY_TARGET_MB = 250


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--base", help="measure this FHIR base instead of starting our own server")
    parser.add_argument("--store", choices=("sqlite", "mongodb", "both"), default="both")
    parser.add_argument("--patients", type=int, default=300, help="300 patients are 21,000 resources")
    parser.add_argument("--seconds", type=float, default=4.0, help="per step")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", help="comma separated words; steps whose name has one of them")
    parser.add_argument(
        "--growth", type=int, metavar="PATIENTS", help="load this many patients more, then measure the searches again"
    )
    parser.add_argument("--no-authorization", action="store_true", help="leave out the cost of access control")
    parser.add_argument("--no-profile", action="store_true", help="leave out the two profiles")
    options = parser.parse_args()
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()};"
        " load generator on the same machine"
    )
    if options.base:
        _table(options, options.base, options.base, None, None, 1.0)
        return
    if options.store in ("sqlite", "both"):
        with tempfile.TemporaryDirectory(prefix="hestia-bench-") as place:
            directory = Path(place)
            with _server(f"sqlite:///{directory}/bench.db", directory, options.workers) as (base, process):
                loaded = _table(options, "embedded store (SQLite)", base, process, directory, 1.0)
                _authorization(options, f"sqlite:///{directory}/bench.db", directory, base, loaded)
    if options.store in ("mongodb", "both"):
        from tests.support import mongodb

        server = mongodb.start()
        try:
            with tempfile.TemporaryDirectory(prefix="hestia-bench-") as place:
                directory = Path(place)
                address, _, options_of_uri = server.uri.partition("?")
                uri = f"{address.rstrip('/')}/hestia_bench?{options_of_uri}".rstrip("?")
                title = f"MongoDB protocol, served by {server.name}"
                if not server.genuine:
                    title += " (a stand-in: its speed says nothing about MongoDB's; targets hold on a real mongod)"
                with _server(uri, directory, options.workers) as (base, process):
                    disk = Path(server.directory) if server.directory else None
                    loaded = _table(options, title, base, process, disk, 0.5)
                    _authorization(options, uri, directory, base, loaded)
        finally:
            mongodb.drop(server.uri, "hestia_bench")
            server.stop()
    if not options.no_profile:
        from bench.profiles import profiles

        profiles(Corpus(20))


def _table(
    options: argparse.Namespace, title: str, base: str, process: subprocess.Popen[bytes] | None, disk: Path | None,
    share: float
) -> Loaded:  # fmt: skip
    target = Target(base)
    corpus = Corpus(options.patients)
    loaded = Loaded(corpus)
    print(f"\n## {title}: {corpus.patients} patients, {corpus.patients * PER_BUNDLE + 50:,} resources")
    print(f"{'step':<28}{'per s':>9}{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}{'wrong':>7}{'target':>9}")
    # The first tenths with one and with four clients, the rest with eight.
    tenth = max(corpus.patients // 10, 1)
    for clients, first, last in ((1, 0, tenth), (4, tenth, 3 * tenth), (8, 3 * tenth, corpus.patients)):
        result = load(target, corpus, clients, first, last, loaded)
        goal = INGEST_TARGET * share if clients == 8 else None
        _row(f"ingest, {clients} client{'s' if clients > 1 else ''} (resources)", result, goal, PER_BUNDLE)
        if result.wrong:
            print("   ", result.faults[:3])
            raise SystemExit("The corpus could not be loaded.")
    if disk is not None:
        _checkpoint(disk)
        size = sum(path.stat().st_size for path in disk.rglob("*") if path.is_file())
        print(f"{'disk, bytes per resource':<28}{size / loaded.resources:>9,.0f}{'':>34}{DISK_TARGET:>9,}")
    words = [word.strip() for word in options.only.split(",")] if options.only else None
    rates: dict[str, float] = {}
    for step in STEPS:
        if words is None or any(word in step.name for word in words):
            result = measure(step, target, loaded, options.seconds)
            rates[step.name] = result.rate
            _row(step.name, result, step.target * share if step.target else None)
            if result.wrong:
                print("   ", result.faults[:3])
    if process is not None:
        for name, megabytes in _memory(process.pid):
            print(f"{name:<28}{megabytes:>8,.0f}M{'':>34}{MEMORY_TARGET_MB:>8,}M")
    if options.growth:
        _growth(options, target, rates, loaded)
    return loaded


def _authorization(options: argparse.Namespace, store: str, directory: Path, base: str, loaded: Loaded) -> None:
    """The same searches on the same store with access control: by a service that may all, by a doctor who may some."""
    from bench.authorization import compare

    if options.no_authorization:
        return
    for audit in ("off", "on"):
        with _server(store, directory, options.workers, auth="on", audit=audit) as (guarded, _):
            compare(Target(base), guarded, store, directory, loaded, options.seconds, audit)


def _growth(options: argparse.Namespace, target: Target, before: dict[str, float], loaded: Loaded) -> None:
    """Loads more patients, whose observations extend the days, and repeats the steps whose hits stay the same."""
    bigger = Corpus(options.growth)
    grown = Loaded(bigger, loaded.practitioners, loaded.patients, loaded.observations, loaded.resources)
    result = load(target, bigger, 8, loaded.corpus.patients, bigger.patients, grown)
    print(
        f"\nafter {grown.resources:,} resources ({result.rate * PER_BUNDLE:,.0f}/s loaded);"
        " rate as a share of the rate before"
    )
    same = ("read", "token", "date", "reference", "chain", "_include", "_revinclude", "sorted")
    grown.corpus = Corpus(loaded.corpus.patients)
    for step in STEPS:
        if step.name.startswith(same) and step.name in before:
            after = measure(step, target, grown, options.seconds)
            print(f"{step.name:<28}{after.rate:>9,.0f}{after.rate / before[step.name]:>9.2f}")


def _row(name: str, result: Result, goal: float | None, each: int = 1) -> None:
    times = "".join(f"{result.percentile(share) * 1000:>9.2f}" for share in (0.5, 0.95, 0.99))
    goal_text = f"{goal:>9,.0f}" if goal else ""
    print(f"{name:<28}{result.rate * each:>9,.0f}{times}{result.wrong:>7}{goal_text}", flush=True)


@contextmanager
def _server(
    store: str, directory: Path, workers: int, auth: str = "off", audit: str = "off"
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "HESTIA_STORE": store,
        "HESTIA_DATA": str(directory),
        "HESTIA_PORT": str(port),
        "HESTIA_WORKERS": str(workers),
        "HESTIA_DEMO": "off",
        "HESTIA_AUTH": auth,
        "HESTIA_AUDIT": audit,
        "HESTIA_FULLTEXT": "off",
        "HESTIA_LOG": "quiet",
    }
    command = [shutil.which("hestia", path=str(Path(sys.executable).parent)) or "hestia", "serve"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    base = f"http://127.0.0.1:{port}/fhir"
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(base + "/metadata", timeout=2).read()
                break
            except (OSError, urllib.error.URLError):
                if process.poll() is not None:
                    raise SystemExit("The server did not start; run `hestia serve` to see why.") from None
                time.sleep(0.1)
        yield base, process
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)


def _checkpoint(directory: Path) -> None:
    """Moves SQLite's write-ahead log into the database, so that the same bytes are not counted twice."""
    for path in directory.glob("*.db"):
        connection = apsw.Connection(str(path))
        connection.set_busy_timeout(10_000)
        connection.execute(
            "SELECT count(*) FROM sqlite_schema"
        ).fetchall()  # opens the log; before that nothing is done
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        connection.close()


def _memory(pid: int) -> list[tuple[str, float]]:
    """Proportional set size per process of the server, in MB."""
    found = []
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    for number, child in enumerate(children):
        try:
            rollup = Path(f"/proc/{child}/smaps_rollup").read_text()
            command = Path(f"/proc/{child}/cmdline").read_bytes()
        except OSError:
            continue
        if b"resource_tracker" in command:
            continue
        kilobytes = sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Rss:"))
        found.append((f"memory, worker {number + 1}", kilobytes / 1024))
    return found


if __name__ == "__main__":
    main()
