"""The demo hospital at the first start: what `seed/` generates, loaded through the repository as any load is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

import seed
from fhir_server.context import Server
from hestia.composition import Lease
from hestia.load import Loader
from hestia.progress import Progress

DEMO = "demo"
"""The store's record: ``loading``, then ``loaded``."""


def ensure_demo(server: Server, refused_file: Path, each_bundle: Callable[[], None] = lambda: None) -> bool:
    """Loads the demo data unless the store holds data already; True when it did.

    A load that was interrupted goes on where it ended (ledger). Several processes at once: one loads, the others wait.
    """
    store = server.store
    state = store.get_meta(DEMO)
    if state == "loaded" or (state is None and store.counts()):
        return False

    def waiting() -> None:
        click.echo("Another process is loading the demo hospital; waiting for it.")

    with Lease(store, DEMO, waiting=waiting) as lease:
        state = store.get_meta(DEMO)
        if state == "loaded" or (state is None and store.counts()):
            return False
        store.put_meta(DEMO, "loading")
        bundles = list(seed.bundles())
        with Progress("Demo hospital", sum(len(bundle["entry"]) for bundle in bundles)) as progress:
            loader = Loader(server, refused_file=refused_file, progress=progress)
            for bundle in bundles:
                loader.bundle_bytes(seed.encode(bundle), source=DEMO)
                lease.renew()
                each_bundle()
        if loader.report.refused:
            raise click.ClickException(f"{loader.report.refused} demo Bundles were refused; see {refused_file}.")
        store.put_meta(DEMO, "loaded")
        return True
