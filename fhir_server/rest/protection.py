"""Headers that protect whoever looks at an answer in a browser. OWASP REST Security; RFC 6797; CSP 3."""

from __future__ import annotations

from typing import Final

PROTECTING: Final = (
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
)
"""Of every answer of the API: it is no page, loads nothing, is not framed, and its address (with ids) goes nowhere."""

PAGES: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
"""Of the server's own pages, which show nobody's data. `data:` are pictures in the style of the API documentation."""


def hsts(base_url: str) -> list[tuple[str, str]]:
    """RFC 6797, where people come by TLS; otherwise nothing, as section 7.2 says."""
    if not base_url.startswith("https://"):
        return []
    return [("Strict-Transport-Security", "max-age=31536000; includeSubDomains")]
