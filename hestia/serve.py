"""`hestia serve`: prepares the store, loads the demo hospital once, and runs granian workers on the WSGI application.

Each worker has one blocking thread and its own store connection. eventlet and Flask stay out of the FHIR path.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import click
from granian import Granian
from granian.constants import Interfaces
from granian.http import HTTP1Settings

from hestia.composition import Lease, connect, identify, make_server
from hestia.demo import ensure_demo
from hestia.maintain import reindex_all
from hestia.settings import Settings, load


def run(settings: Settings) -> None:
    """Prepares and serves until interrupted; prints the addresses to try."""
    _prepare(settings)
    for name, value in settings.environment().items():
        os.environ[name] = value
    server = Granian(
        target="hestia.serve:application",
        factory=True,
        address=settings.host,
        port=settings.port,
        interface=Interfaces.WSGI,
        workers=settings.workers,
        blocking_threads=1,
        backlog=1024,
        backpressure=512,
        respawn_failed_workers=True,
        http1_settings=HTTP1Settings(keep_alive=True, pipeline_flush=True),
        log_enabled=True,
        log_level="warning",  # type: ignore[arg-type]
    )
    base = settings.base_url
    root = base.rsplit("/", 1)[0]
    click.echo(f"\nHestia serves FHIR R4 at  {base}   ({settings.workers} workers; Ctrl-C stops)")
    click.echo(f"  {root}/                  overview, counts, links to try")
    click.echo(f"  {root}/docs              interactive API documentation")
    click.echo(f"  {base}/metadata     CapabilityStatement")
    click.echo(f"  {base}/Patient?_count=5&_pretty=true")
    sys.stdout.flush()
    server.serve()


def _prepare(settings: Settings) -> None:
    settings.data.mkdir(parents=True, exist_ok=True)
    store = connect(settings.store)
    try:
        for note in identify(store, settings):
            click.echo(note)
        server = make_server(settings, store)
        if store.get_meta("identity")["reindex"]:  # type: ignore[index]
            with Lease(store, "migrate"):
                if store.get_meta("identity")["reindex"]:  # type: ignore[index]
                    reindex_all(server)
        if settings.demo:
            ensure_demo(server)
    finally:
        store.close()


def application() -> Callable[..., Any]:
    """The WSGI application of one worker, made in the worker's own process from the environment."""
    from fhir_server.app import create_app

    settings = load()
    return create_app(make_server(settings))
