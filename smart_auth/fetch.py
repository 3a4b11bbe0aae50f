"""Fetching what a client's metadata points to (jwks_uri, logos) without reaching into the hospital's own network.

The name is resolved once, every address it has must be public, and the connection goes to the address that was checked:
a name that changes its mind in between (DNS rebinding) reaches nothing. No redirects, no proxies, no compression, a
bound on time and on size. Only https, but for the hosts of a list that the operator keeps.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import re
import socket
import ssl
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

TIMEOUT_S: Final = 3.0
LIMIT: Final = 256 * 1024
URL_LENGTH: Final = 2000
JSON_TYPES: Final = re.compile(r"application/(?:[\w.-]+\+)?json")
IMAGE_TYPES: Final = re.compile(r"image/(?:png|jpeg|webp|gif)")

KEYS_LIFETIME_S: Final = 600
KEYS_AGAIN_S: Final = 60
"""An unknown kid makes a set be fetched again, but not more often than this."""
KEYS_CACHED: Final = 256

Resolve = Callable[[str, int], list[str]]
"""Addresses of a host name."""

_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")


class FetchFailed(Exception):
    """Nothing usable came. The text is for the owner of the URL and names no address of ours."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A body with its media type (lower case, without parameters) and the seconds that it may be kept."""

    body: bytes
    type: str
    max_age_s: int | None


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet, also when it carries an IPv4 address inside."""
    parsed = ipaddress.ip_address(address.split("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        inner = parsed.ipv4_mapped or parsed.sixtofour
        if parsed in _NAT64:
            inner = ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
        if parsed.teredo is not None or parsed.is_site_local or not int(parsed) >> 32:
            return False
    return parsed.is_global and not (
        parsed.is_multicast or parsed.is_reserved or parsed.is_loopback or parsed.is_link_local or parsed.is_unspecified
    )


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def resolve(host: str, port: int) -> list[str]:
    """The addresses of a host name, within the time limit. Raises: FetchFailed."""
    found: list[str] = []

    def look() -> None:
        try:
            found.extend(str(one[4][0]) for one in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError):
            pass

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    looking.join(TIMEOUT_S)
    if looking.is_alive() or not found:
        raise FetchFailed("The host has no address.")
    return found


class Fetcher:
    """Fetches from public hosts, and from those of `allow` ("host" or "host:port") wherever they are."""

    def __init__(
        self,
        allow: Sequence[str] = (),
        *,
        timeout_s: float = TIMEOUT_S,
        resolve: Resolve = resolve,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self._allow = frozenset(one.lower() for one in allow)
        self._timeout_s = timeout_s
        self._resolve = resolve
        self._context = context

    def check_url(self, url: str) -> SplitResult:
        """The parts of a URL that may be fetched as far as can be said without resolving it. Raises: FetchFailed."""
        if len(url) > URL_LENGTH or not url.isascii() or re.search(r"[\x00-\x20\x7f\\]", url):
            raise FetchFailed("The URL is malformed.")
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            raise FetchFailed("The URL is malformed.") from None
        if not host or parts.username is not None or parts.password is not None:
            raise FetchFailed("The URL is malformed.")
        if parts.scheme != "https" and not (parts.scheme == "http" and self._allowed(host, port or 80)):
            raise FetchFailed("Only https is fetched.")
        if _is_address(host) and not (self._allowed(host, port or 443) or is_public(host)):
            raise FetchFailed("The host is not on the public internet.")
        return parts

    def get(self, url: str, types: re.Pattern[str] = JSON_TYPES, limit: int = LIMIT) -> Fetched:
        """The body at a URL, whose media type has to match `types`. Raises: FetchFailed."""
        deadline = time.monotonic() + self._timeout_s
        parts = self.check_url(url)
        assert parts.hostname is not None
        port = parts.port or (443 if parts.scheme == "https" else 80)
        connection = _connect(self._addresses(parts.hostname, port), port, deadline)
        # Each read has a time limit; this ends the exchange as a whole, however slowly it drips.
        current = [connection]
        watchdog = threading.Timer(max(0.0, deadline - time.monotonic()), _shut, (current,))
        watchdog.daemon = True
        watchdog.start()
        try:
            if parts.scheme == "https":
                context = self._context or ssl.create_default_context()
                secured = context.wrap_socket(connection, server_hostname=parts.hostname, do_handshake_on_connect=False)
                current[0] = secured
                secured.do_handshake()
            fetched = _exchange(current[0], parts, types, limit)
        except (OSError, http.client.HTTPException, ValueError):
            raise FetchFailed("The host does not answer as it should.") from None
        finally:
            watchdog.cancel()
            current[0].close()
        if time.monotonic() > deadline:
            raise FetchFailed("The host answers too slowly.")
        return fetched

    def _allowed(self, host: str, port: int) -> bool:
        bracketed = f"[{host}]" if ":" in host else host
        return bool(self._allow & {host, bracketed, f"{bracketed}:{port}"})

    def _addresses(self, host: str, port: int) -> list[str]:
        try:
            addresses = [str(ipaddress.ip_address(host))]
        except ValueError:
            addresses = self._resolve(host, port)
        if not addresses:
            raise FetchFailed("The host has no address.")
        if not self._allowed(host, port) and not all(is_public(one) for one in addresses):
            raise FetchFailed("The host is not on the public internet.")
        return addresses


def _connect(addresses: list[str], port: int, deadline: float) -> socket.socket:
    """A connection to the first address that answers; each gets its share of the time. Raises: FetchFailed."""
    for tried, address in enumerate(addresses):
        share_s = (deadline - time.monotonic()) / (len(addresses) - tried)
        if share_s <= 0:
            break
        try:
            connection = socket.create_connection((address, port), timeout=share_s)
            connection.settimeout(max(0.01, deadline - time.monotonic()))
            return connection
        except OSError:
            continue
    raise FetchFailed("The host does not answer.")


def _shut(current: list[socket.socket]) -> None:
    try:
        socket.socket.shutdown(current[0], socket.SHUT_RDWR)  # below TLS, which another thread is reading
    except OSError:
        pass


def _exchange(connection: socket.socket, parts: SplitResult, types: re.Pattern[str], limit: int) -> Fetched:
    client = http.client.HTTPConnection(parts.netloc.rpartition("@")[2])
    client.sock = connection
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    client.request(
        "GET",
        target,
        headers={"Accept": "application/json, image/*", "Accept-Encoding": "identity", "User-Agent": "Hestia"},
    )
    response = client.getresponse()
    if response.status != 200:
        raise FetchFailed(f"The host answers with status {response.status}.")
    media = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if not types.fullmatch(media) or response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise FetchFailed("The host answers with another media type.")
    body = response.read(limit + 1)
    if response.length and len(body) <= limit:
        raise FetchFailed("The answer is cut off.")
    if len(body) > limit:
        raise FetchFailed(f"The answer is larger than {limit} bytes.")
    return Fetched(body, media, _max_age(response.headers.get("Cache-Control", "")))


def _max_age(text: str) -> int | None:
    directives = [one.strip().lower() for one in text.split(",")]
    if "no-store" in directives or "no-cache" in directives:
        return 0
    found = next((one[8:] for one in directives if one.startswith("max-age=")), "")
    return int(found) if re.fullmatch(r"\d{1,9}", found, re.ASCII) else None


@dataclass(frozen=True, slots=True)
class _Kept:
    keys: dict[str, Any]
    fetched_at: int
    until: int


class KeySets:
    """JWK Sets of clients by URL, kept for ten minutes at most and not for longer than Cache-Control says.

    SMART App Launch 2.2, client-confidential-asymmetric.html, "Registering a client".
    """

    def __init__(self, fetcher: Fetcher, clock: Callable[[], int]) -> None:
        self._fetcher = fetcher
        self._clock = clock
        self._kept: OrderedDict[str, _Kept] = OrderedDict()

    def get(self, url: str, kid: str | None = None) -> dict[str, Any]:
        """The JWK Set at a URL: fetched again when it is too old, or lacks `kid` and is older than a minute.

        Raises: FetchFailed.
        """
        now, kept = self._clock(), self._kept.get(url)
        if kept is not None and now < kept.until:
            lacks = kid is not None and all(key.get("kid") != kid for key in kept.keys["keys"])
            if not lacks or now < kept.fetched_at + KEYS_AGAIN_S:
                return kept.keys
        fetched = self._fetcher.get(url)
        keys = _key_set(fetched.body)
        lifetime_s = KEYS_LIFETIME_S if fetched.max_age_s is None else min(KEYS_LIFETIME_S, fetched.max_age_s)
        self._kept[url] = _Kept(keys, now, now + lifetime_s)
        self._kept.move_to_end(url)
        while len(self._kept) > KEYS_CACHED:
            self._kept.popitem(last=False)
        return keys


def _key_set(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        raise FetchFailed("The answer is not JSON.") from None
    keys = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(keys, list) or not all(isinstance(key, dict) for key in keys):
        raise FetchFailed("The answer is not a JWK Set.")
    return {"keys": keys}
