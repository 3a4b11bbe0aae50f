"""One WSGI application of everything that a worker serves: FHIR, authorization server, pages, the sample app.

FHIR paths go straight to the core; the rest is told apart by the first part of the path.
"""

from __future__ import annotations

import mimetypes
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from fhir_server.app import create_app
from fhir_server.context import MOUNT, Server
from fhir_server.rest.pages import create_pages
from fhir_server.rest.protection import hsts
from hestia.gate import TokenGate
from hestia.settings import Settings
from smart_auth.app import create_auth
from smart_auth.context import Auth

Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

SAMPLE_APP: Final = Path(__file__).resolve().parents[1] / "docs" / "examples" / "sample-app"
SAMPLE_PATH: Final = "/sample-app/"
_WELL_KNOWN: Final = MOUNT + "/.well-known/"
_SAMPLE_HEADERS: Final = [
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Cache-Control", "no-cache"),
]


def create_application(settings: Settings, server: Server, auth: Auth | None) -> Wsgi:
    """The application of one worker. Without `auth` access control is off, which every answer says."""
    pages = create_pages(lambda: server, auth_off=auth is None).wsgi_app
    if auth is None:
        return behind_proxies(create_app(server, pages, auth_off=True), settings.proxies)
    authorization = create_auth(auth)
    parts = {rule.rule.split("/")[1] for rule in authorization.url_map.iter_rules()} - {""}
    accounts = authorization.wsgi_app
    sample = sample_app(SAMPLE_APP, hsts(settings.base_url))

    def rest(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path: str = environ["PATH_INFO"]
        if path.startswith(SAMPLE_PATH):
            return sample(environ, start_response)
        if path.split("/", 2)[1] in parts:
            return accounts(environ, start_response)
        return pages(environ, start_response)

    fhir = create_app(server, rest, gate=TokenGate(auth))

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"].startswith(_WELL_KNOWN):
            return accounts(environ, start_response)
        return fhir(environ, start_response)

    return behind_proxies(application, settings.proxies)


def behind_proxies(application: Wsgi, trusted: int) -> Wsgi:
    """The application, told the address of the client as the `trusted` proxies in front of it saw it."""
    if trusted == 0:
        return application

    def forwarded(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        seen = [part.strip() for part in environ.get("HTTP_X_FORWARDED_FOR", "").split(",") if part.strip()]
        if len(seen) >= trusted:
            environ["REMOTE_ADDR"] = seen[-trusted]
        return application(environ, start_response)

    return forwarded


def sample_app(directory: Path, more: Sequence[tuple[str, str]] = ()) -> Wsgi:
    """The files of the sample SMART app, as any web server would hand them out; `more` headers."""
    files = {path.name: path for path in directory.glob("*.*") if path.suffix in (".html", ".js", ".css", ".svg")}

    def serve(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        name = environ["PATH_INFO"].removeprefix(SAMPLE_PATH) or "index.html"
        path = files.get(name)
        if path is None or environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            start_response("404 Not Found", [("Content-Type", "text/plain; charset=UTF-8"), ("Content-Length", "0")])
            return [b""]
        body = path.read_bytes()
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        start_response(
            "200 OK",
            [("Content-Type", f"{kind}; charset=UTF-8"), ("Content-Length", str(len(body))), *_SAMPLE_HEADERS, *more],
        )
        return [b"" if environ["REQUEST_METHOD"] == "HEAD" else body]

    return serve
