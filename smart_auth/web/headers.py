"""Headers of every response: nothing inline runs, nobody frames a page, nothing is kept by caches.

OWASP Secure Headers; RFC 9700 section 4.16 (clickjacking). Endpoints that set one of these themselves keep theirs.
"""

from __future__ import annotations

from typing import Final

from flask import Flask, Response, g, request

from smart_auth.context import Auth

STATIC_ENDPOINT: Final = "web.static"
_POLICY: Final = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; script-src 'self'; form-action 'self'{more}; "
    "frame-ancestors 'none'; base-uri 'none'"
)
_POPUPS: Final = ("/oauth/", "/login")
"""An app may open these in a window of its own and be told the result through `window.opener`."""
_HSTS: Final = "max-age=31536000; includeSubDomains"


def protect(app: Flask, auth: Auth) -> None:
    """Adds the headers to whatever `app` answers."""

    @app.after_request
    def add(response: Response) -> Response:
        headers = response.headers
        more = g.get("form_action")
        headers.setdefault("Content-Security-Policy", _POLICY.format(more=f" {more}" if more else ""))
        headers.setdefault("X-Frame-Options", "DENY")
        headers.setdefault("X-Content-Type-Options", "nosniff")
        headers.setdefault("Referrer-Policy", "no-referrer")
        if not request.path.startswith(_POPUPS):
            headers.setdefault("Cross-Origin-Opener-Policy", "same-origin")
        if request.endpoint == STATIC_ENDPOINT:
            headers["Cache-Control"] = "no-cache"
        else:
            headers.setdefault("Cache-Control", "no-store")
        if auth.settings.secure:
            headers.setdefault("Strict-Transport-Security", _HSTS)
        return response
