"""The demo hospital at the first start: what `seed/` generates, loaded through the repository as any load is."""

from __future__ import annotations

import seed
from fhir_server.context import Server
from hestia.composition import Lease
from hestia.load import Loader
from hestia.progress import Progress

DEMO_RESOURCES = 8_000
"""Roughly how many there will be: for the bar's estimate only."""


def ensure_demo(server: Server) -> None:
    """Loads the demo data unless the store holds data already. Interrupted loads go on where they ended (ledger)."""
    store = server.store
    state = store.get_meta("demo")
    if state == "loaded" or (state is None and store.counts()):
        return
    with Lease(store, "demo") as lease:
        if store.get_meta("demo") == "loaded":
            return
        store.put_meta("demo", "loading")
        bundles = list(seed.bundles())
        total = sum(len(bundle["entry"]) for bundle in bundles)
        with Progress("Demo hospital", total) as progress:
            loader = Loader(server, progress=progress)
            for bundle in bundles:
                loader.bundle_bytes(seed.encode(bundle), source="demo")
                lease.renew()
        if loader.report.refused:
            raise RuntimeError(f"{loader.report.refused} demo resources were refused; see {loader.report.refused_file}")
        store.put_meta("demo", "loaded")
