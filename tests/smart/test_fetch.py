"""Fetching from hosts that clients name: what is refused, against a real server of this machine (T26)."""

from __future__ import annotations

import json
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from smart_auth.fetch import IMAGE_TYPES, LIMIT, Fetcher, FetchFailed, KeySets, is_public
from tests.support.accounts import AuthClock
from tests.support.certificate import Certified

JWKS = {"keys": [{"kty": "EC", "kid": "one"}]}


class Site(ThreadingHTTPServer):
    """What a test wants answered, and what was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.status = 200
        self.headers: dict[str, str] = {"Content-Type": "application/json"}
        self.body = json.dumps(JWKS).encode()
        self.drip_s = 0.0
        self.asked: list[str] = []
        self.stop = threading.Event()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


class Answering(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        site = self.server
        site.asked.append(f"{self.headers['Host']} {self.path}")
        self.send_response(site.status)
        for name, value in site.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(site.body)))
        self.end_headers()
        if site.drip_s:
            for at in range(len(site.body)):
                self.wfile.write(site.body[at : at + 1])
                if site.stop.wait(site.drip_s):
                    return
        else:
            try:
                self.wfile.write(site.body)
            except OSError:
                pass  # the client has heard enough

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is printed."""


@pytest.fixture
def site() -> Iterator[Site]:
    server = Site()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.stop.set()
    server.shutdown()
    server.server_close()
    thread.join(5)


def to(address: str) -> Callable[[str, int], list[str]]:
    return lambda host, port: [address]


def test_json_of_an_allowed_host_comes(site: Site) -> None:
    fetched = Fetcher([site.host]).get(f"http://{site.host}/jwks.json?a=1")
    assert json.loads(fetched.body) == JWKS
    assert fetched.type == "application/json"
    assert site.asked == [f"{site.host} /jwks.json?a=1"]


def test_https_checks_the_certificate_for_the_name_and_connects_to_the_checked_address(
    site: Site, certified: Certified
) -> None:
    file, context = certified
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(file)
    site.socket = serving.wrap_socket(site.socket, server_side=True)
    port = site.server_address[1]
    asked: list[str] = []

    def once(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"]

    fetcher = Fetcher(["keys.example"], resolve=once, context=context)
    assert json.loads(fetcher.get(f"https://keys.example:{port}/k").body) == JWKS
    assert asked == ["keys.example"]
    assert site.asked == [f"keys.example:{port} /k"]
    with pytest.raises(FetchFailed):
        Fetcher(["other.example"], resolve=to("127.0.0.1"), context=context).get(f"https://other.example:{port}/k")
    with pytest.raises(FetchFailed):
        Fetcher(["keys.example"], resolve=to("127.0.0.1")).get(f"https://keys.example:{port}/k")
    assert len(site.asked) == 1


@pytest.mark.parametrize(
    "url",
    [
        "http://keys.example/k",
        "ftp://keys.example/k",
        "file:///etc/passwd",
        "https:///k",
        "https://user@keys.example/k",
        "https://user:pass@keys.example/k",
        "https://keys.example:99999/k",
        "https://keys.example:x/k",
        "https://keys.example\\@127.0.0.1/",
        "https://keys.example/\r\nHost: x",
        "https://keys.example/a b",
        "https://ключи.example/k",
        "https://[::1/k",
        "//keys.example/k",
        "https://keys.example/" + "a" * 2000,
    ],
)
def test_other_urls_are_refused_before_anything_is_resolved(url: str) -> None:
    def never(host: str, port: int) -> list[str]:
        raise AssertionError(host)

    with pytest.raises(FetchFailed):
        Fetcher(resolve=never).get(url)


PRIVATE = [
    "127.0.0.1",
    "127.8.8.8",
    "10.0.0.1",
    "172.16.5.4",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",
    "0.1.2.3",
    "192.0.0.1",
    "198.18.0.1",
    "192.0.2.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "2002:7f00:1::",
    "2002:a00:1::",
    "2001:0:7f00:1::1",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "fc00::1",
    "fd12:3456::1",
    "ff02::1",
    "2001:db8::1",
    "100::1",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_that_are_not_public_are_refused(address: str) -> None:
    assert not is_public(address)
    with pytest.raises(FetchFailed, match="public internet"):
        Fetcher(resolve=to(address)).get("https://keys.example/k")
    with pytest.raises(FetchFailed, match="public internet"):
        Fetcher(resolve=lambda host, port: ["8.8.8.8", address]).get("https://keys.example/k")


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "114.114.114.114", "2400:3200::1", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "[::ffff:7f00:1]", "localhost", "2130706433", "0x7f.1"])
def test_this_machine_is_refused_in_every_writing(site: Site, host: str) -> None:
    with pytest.raises(FetchFailed):
        Fetcher().get(f"https://{host}:{site.server_address[1]}/k")
    assert site.asked == []


def test_an_allowed_port_allows_no_other(site: Site) -> None:
    with pytest.raises(FetchFailed):
        Fetcher(["127.0.0.1:1"]).get(f"http://{site.host}/k")
    assert Fetcher(["127.0.0.1"]).get(f"http://{site.host}/k").type == "application/json"


@pytest.mark.parametrize("status", [201, 204, 301, 302, 307, 404, 500])
def test_only_200_is_an_answer_and_no_redirect_is_followed(site: Site, status: int) -> None:
    site.status, site.headers["Location"] = status, f"http://{site.host}/other"
    with pytest.raises(FetchFailed, match=str(status)):
        Fetcher([site.host]).get(f"http://{site.host}/k")
    assert len(site.asked) == 1


@pytest.mark.parametrize(
    "headers",
    [{"Content-Type": "text/html"}, {}, {"Content-Type": "application/json", "Content-Encoding": "gzip"}],
)
def test_another_media_type_or_coding_is_refused(site: Site, headers: dict[str, str]) -> None:
    site.headers = headers
    with pytest.raises(FetchFailed, match="media type"):
        Fetcher([site.host]).get(f"http://{site.host}/k")


def test_jwk_sets_and_images_have_media_types_of_their_own(site: Site) -> None:
    fetcher = Fetcher([site.host])
    site.headers["Content-Type"] = "application/jwk-set+json; charset=utf-8"
    assert fetcher.get(f"http://{site.host}/k").type == "application/jwk-set+json"
    with pytest.raises(FetchFailed):
        fetcher.get(f"http://{site.host}/k", IMAGE_TYPES)
    site.headers["Content-Type"] = "image/png"
    assert fetcher.get(f"http://{site.host}/k", IMAGE_TYPES).type == "image/png"
    site.headers["Content-Type"] = "image/svg+xml"
    with pytest.raises(FetchFailed):
        fetcher.get(f"http://{site.host}/k", IMAGE_TYPES)


def test_a_large_answer_is_refused(site: Site) -> None:
    site.body = b" " * LIMIT
    assert len(Fetcher([site.host]).get(f"http://{site.host}/k").body) == LIMIT
    site.body = b" " * (LIMIT + 1)
    with pytest.raises(FetchFailed, match="larger"):
        Fetcher([site.host]).get(f"http://{site.host}/k")


def test_a_dripping_answer_ends_in_time(site: Site) -> None:
    site.body, site.drip_s = b" " * 1000, 0.05
    with pytest.raises(FetchFailed):
        Fetcher([site.host], timeout_s=0.3).get(f"http://{site.host}/k")


def test_an_address_that_does_not_answer_is_passed_over(site: Site) -> None:
    port = site.server_address[1]
    fetcher = Fetcher(["keys.example"], resolve=lambda host, port: ["127.0.0.2", "127.0.0.1"])
    assert fetcher.get(f"http://keys.example:{port}/k").type == "application/json"


def test_nobody_listening_fails() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(FetchFailed, match="does not answer"):
        Fetcher(["127.0.0.1"]).get(f"http://127.0.0.1:{port}/k")


def test_what_is_not_http_fails() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def speak() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"220 mail.example ESMTP\r\n")

        thread = threading.Thread(target=speak, daemon=True)
        thread.start()
        with pytest.raises(FetchFailed):
            Fetcher(["127.0.0.1"]).get(f"http://127.0.0.1:{server.getsockname()[1]}/k")
        thread.join(5)


def test_key_sets_are_kept_for_ten_minutes(site: Site, clock: AuthClock) -> None:
    sets, url = KeySets(Fetcher([site.host]), clock), f"http://{site.host}/k"
    assert sets.get(url, "one") == JWKS
    clock.advance(599)
    assert sets.get(url, "one") == JWKS
    assert len(site.asked) == 1
    clock.advance(1)
    sets.get(url, "one")
    assert len(site.asked) == 2


def test_an_unknown_kid_fetches_again_once_a_minute(site: Site, clock: AuthClock) -> None:
    sets, url = KeySets(Fetcher([site.host]), clock), f"http://{site.host}/k"
    sets.get(url, "two")
    clock.advance(59)
    sets.get(url, "two")
    assert len(site.asked) == 1
    clock.advance(1)
    site.body = b'{"keys": [{"kid": "two"}]}'
    assert sets.get(url, "two") == {"keys": [{"kid": "two"}]}
    assert len(site.asked) == 2


@pytest.mark.parametrize(("control", "asked"), [("max-age=30", 2), ("no-store", 2), ("public, max-age=86400", 1)])
def test_cache_control_shortens_and_never_lengthens(site: Site, clock: AuthClock, control: str, asked: int) -> None:
    site.headers["Cache-Control"] = control
    sets, url = KeySets(Fetcher([site.host]), clock), f"http://{site.host}/k"
    sets.get(url)
    clock.advance(31)
    sets.get(url)
    assert len(site.asked) == asked


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"keys": {}}', b'{"keys": [1]}', b"\xff", b"[" * 100_000])
def test_what_is_no_key_set_is_refused(site: Site, clock: AuthClock, body: bytes) -> None:
    site.body = body
    with pytest.raises(FetchFailed, match=re.compile("JSON|JWK Set")):
        KeySets(Fetcher([site.host]), clock).get(f"http://{site.host}/k")
