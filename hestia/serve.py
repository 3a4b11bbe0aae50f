"""`hestia serve`: prepares the store, loads the demo hospital once, and runs granian workers on the WSGI application.

Each worker has one blocking thread and its own store connection. Flask stays out of the FHIR path.
"""

from __future__ import annotations

import ctypes
import errno
import ipaddress
import os
import signal
import socket
import sys
from collections.abc import Callable
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any

import click
from granian import Granian
from granian.constants import Interfaces
from granian.http import HTTP1Settings

from fhir_server.context import Server
from hestia import auditing
from hestia.composition import IDENTITY, Lease, connect, identify, make_auth, make_server
from hestia.demo import DEMO, demo_bundles, ensure_demo
from hestia.housekeeping import Housekeeping
from hestia.load import default_refused_file
from hestia.maintain import reindex_all
from hestia.settings import Settings, load
from smart_auth.accounts import first_administrator

KILL_AFTER_S = 15
"""How long a worker may take to finish its requests when it is asked to stop."""

_PR_SET_PDEATHSIG = 1


def run(settings: Settings) -> None:
    """Prepares and serves until interrupted; prints the addresses to try."""
    require_allowed(settings)
    require_free_port(settings.host, settings.port)
    stop = Stop()
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    try:
        _prepare(settings, stop)
    except KeyboardInterrupt:
        click.echo("\nStopped. Nothing that was written is lost; the next start goes on from here.")
        sys.exit(130)
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
        workers_kill_timeout=KILL_AFTER_S,
        http1_settings=HTTP1Settings(keep_alive=True, pipeline_flush=True),
        log_enabled=True,
        log_level="warning",  # type: ignore[arg-type]
    )
    server.on_startup(lambda: _announce(settings))
    server.serve()
    click.echo("Stopped.")


def require_allowed(settings: Settings) -> None:
    """Raises click.ClickException for a combination of settings that would leave patients unprotected."""
    if settings.auth == "off":
        if settings.production:
            raise click.ClickException("HESTIA_AUTH=off is for experiments; it cannot be used in production.")
        if not is_loopback(settings.host):
            raise click.ClickException(
                f"HESTIA_AUTH=off serves this machine only, and {settings.host} is reachable from others."
                " Leave HESTIA_HOST at 127.0.0.1, or turn access control on."
            )
    if settings.production:
        if not settings.audit:
            raise click.ClickException("HESTIA_AUDIT=off is for measurements; it cannot be used in production.")
        if settings.demo and settings.source["demo"] != "default":
            raise click.ClickException("HESTIA_DEMO=on makes demo accounts, which cannot exist in production.")
        if not settings.base_url.startswith("https://") and not is_loopback(settings.host):
            raise click.ClickException("In production HESTIA_BASE_URL begins with https:// (TLS ends at the proxy).")


def require_free_port(host: str, port: int) -> None:
    """Raises click.ClickException when the address cannot be listened on: before anything else is done."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise click.ClickException(
                f"Port {port} on {host} is in use, perhaps by another `hestia serve`; choose another with --port."
            ) from None
        raise click.ClickException(f"Cannot listen on {host} port {port}: {error.strerror}.") from None


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that listens on `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Stop:
    """A signal handler that interrupts at once, and remembers it: a KeyboardInterrupt that is raised in a callback of a
    library may be lost there.
    """

    def __init__(self) -> None:
        self.asked = False

    def __call__(self, number: int, frame: object) -> None:
        self.asked = True
        raise KeyboardInterrupt

    def check(self) -> None:
        """Raises KeyboardInterrupt when a signal came; called as long work goes on."""
        if self.asked:
            raise KeyboardInterrupt


def _announce(settings: Settings) -> None:
    base, root = settings.base_url, settings.issuer
    workers = f"{settings.workers} workers" if settings.workers > 1 else "1 worker"
    click.echo(f"\nHestia serves FHIR R4 at  {base}   ({workers}; Ctrl-C stops)")
    click.echo(f"  {root}/                  overview, links to try")
    click.echo(f"  {root}/docs              interactive API documentation")
    click.echo(f"  {base}/metadata     CapabilityStatement")
    if settings.auth == "off":
        click.echo(f"  {base}/Patient?_count=5&_pretty=true")
        click.secho("Access control is off (HESTIA_AUTH=off): everybody on this machine may do anything.", fg="yellow")
    else:
        click.echo(f"  {root}/login             log in; /account and /admin are behind it")
        if not settings.production and settings.demo:
            click.echo(f"  {root}/start             log in as each demo role, and launch the sample SMART app")
            click.echo(
                f"  {_program()} token --as doctor-he    a token for curl;  {_program()} demo    all demo accounts"
            )
    sys.stdout.flush()


def _program() -> str:
    """How this command line was called, so that what is printed can be typed."""
    path = os.path.relpath(sys.argv[0])
    return "hestia" if path.endswith(".py") or path.startswith("..") else path


def _prepare(settings: Settings, stop: Stop) -> None:
    settings.data.mkdir(parents=True, exist_ok=True)
    store = connect(settings.store)
    try:
        for note in identify(store, settings):
            click.echo(note)
        server = make_server(settings, store)
        _reindex(server, stop)
        if settings.demo and not settings.production:
            ensure_demo(server, default_refused_file(settings.data), stop.check)
        stop.check()
        if settings.auth == "on":
            _prepare_access(settings, server)
        stop.check()
    finally:
        store.close()


def _prepare_access(settings: Settings, server: Server) -> None:
    """The first administrator, and in development the demo's accounts and clients; both once."""
    from hestia.demo_access import demo_accounts, ensure_access, follow_issuer

    auth = make_auth(settings, server)
    try:
        if settings.production and demo_accounts(auth):
            raise click.ClickException("This store holds demo accounts. `hestia demo --remove` removes them.")
        record = server.store.get_meta(DEMO)
        if record is not None and settings.demo and not settings.production:
            ensure_access(
                server,
                auth,
                # Generated only when it is needed: at the first start.
                lambda: [entry["resource"] for bundle in demo_bundles(record) for entry in bundle["entry"]],
            )
        follow_issuer(auth)
        if settings.production and not (settings.smtp or settings.sms):
            click.secho("Warning: neither HESTIA_SMTP nor HESTIA_SMS is set; one-time codes reach nobody.", fg="yellow")
        made = first_administrator(auth)
        if made is not None:
            username, password = made
            click.echo(f"\nThe first administrator: user name {username}, one-time password {password}")
            click.echo("It is shown this once, and has to be changed at the first login.")
    finally:
        auth.store.close()


def _reindex(server: Server, stop: Stop) -> None:
    """Makes the index anew where the settings or the version ask for it; one process does, the others wait."""

    def needed() -> bool:
        return bool((server.store.get_meta(IDENTITY) or {}).get("reindex"))

    if not needed():
        return
    with Lease(server.store, "migrate", waiting=lambda: click.echo("Another process is indexing; waiting.")) as lease:
        if needed():

            def each_page() -> None:
                stop.check()
                lease.renew()

            reindex_all(server, each_page)


def _be_a_worker(parent: int) -> None:
    """Makes one signal, SIGTERM from the parent, the way to stop a worker.

    A terminal's Ctrl-C reaches workers too, and granian does not end when it is interrupted twice: SIGINT is blocked,
    here, before there are other threads. Until granian installs its handlers a forked worker has those of its parent,
    which would swallow the request to stop. A worker ends with its parent however that ends, so that a killed server
    leaves nobody on its port.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            sys.exit(0)


def application() -> Callable[..., Any]:
    """The WSGI application of one worker, made in the worker's own process from the environment."""
    from hestia.web import create_application

    _be_a_worker(os.getppid())
    # The environment says everything; a file is not read again.
    settings = load(file=Path(os.devnull))
    server = make_server(settings)
    if settings.auth == "off":
        return create_application(settings, server, None)
    Housekeeping(settings.store).start()
    if not settings.audit:
        return create_application(settings, server, make_auth(settings, server))
    audit = auditing.start(settings)
    # A process of multiprocessing runs no atexit functions, but these.
    Finalize(None, audit.stop, exitpriority=1)
    server.recorder = audit.recorder
    return create_application(settings, server, make_auth(settings, server, auditing.listener(audit)))
