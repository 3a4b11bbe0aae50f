"""The demo hospital at the first start: what `seed/` generates, loaded through the repository as any load is."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

import seed
from fhir_server.context import Server
from hestia.composition import Lease
from hestia.load import Loader
from hestia.progress import Progress

DEMO = "demo"
"""The store's record: `state` is loading, then loaded; `today` the day that the demo plays. (Once only the state.)"""


def demo_bundles(record: dict[str, Any] | str | None) -> list[dict[str, Any]]:
    """The demo's Bundles, as they were or will be loaded."""
    if isinstance(record, dict):
        return list(seed.bundles(today=datetime.date.fromisoformat(record["today"])))
    return list(seed.bundles())


def _state(record: dict[str, Any] | str | None) -> str | None:
    return record["state"] if isinstance(record, dict) else record


def ensure_demo(server: Server, refused_file: Path, each_bundle: Callable[[], None] = lambda: None) -> bool:
    """Loads the demo data unless the store holds data already; True when it did.

    The demo plays today, so that visits are recent and places can be booked. A load that was interrupted goes on where
    it ended (ledger), on the day that it began. Several processes at once: one loads, the others wait.
    """
    store = server.store
    state = _state(store.get_meta(DEMO))
    if state == "loaded" or (state is None and store.counts()):
        return False

    def waiting() -> None:
        click.echo("Another process is loading the demo hospital; waiting for it.")

    with Lease(store, DEMO, waiting=waiting) as lease:
        record = store.get_meta(DEMO)
        if _state(record) == "loaded" or (record is None and store.counts()):
            return False
        if record is None:
            record = {"state": "loading", "today": datetime.datetime.now(datetime.UTC).date().isoformat()}
            store.put_meta(DEMO, record)
        bundles = demo_bundles(record)
        with Progress("Demo hospital", sum(len(bundle["entry"]) for bundle in bundles)) as progress:
            loader = Loader(server, refused_file=refused_file, progress=progress)
            for bundle in bundles:
                loader.bundle_bytes(seed.encode(bundle), source=DEMO)
                lease.renew()
                each_bundle()
        if loader.report.refused:
            raise click.ClickException(f"{loader.report.refused} demo Bundles were refused; see {refused_file}.")
        store.put_meta(DEMO, {**record, "state": "loaded"} if isinstance(record, dict) else "loaded")
        return True
