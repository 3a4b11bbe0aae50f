"""A lean HTTP/1.1 load generator: keep-alive connections in one process, requests as prepared bytes, answers checked.

It must cost little, since it shares two cores with the server that it measures: no HTTP library, one `epoll` loop. An
answer is read
to its end (Content-Length or chunked), its status compared with what the step expects, and its body handed to the
step's check.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass(slots=True)
class Request:
    """One request: bytes for the wire, statuses that are right, and a check of the body (returns a fault or None)."""

    data: bytes
    expect: tuple[int, ...] = (200,)
    check: Callable[[bytes], str | None] | None = None


@dataclass(slots=True)
class Result:
    """What a step measured. `latencies_s` per request, ascending; `faults` says what was wrong, at most ten."""

    seconds: float
    latencies_s: list[float]
    faults: list[str] = field(default_factory=list)
    wrong: int = 0
    body_bytes: int = 0

    @property
    def rate(self) -> float:
        return len(self.latencies_s) / self.seconds if self.seconds else 0.0

    def percentile(self, share: float) -> float:
        """Seconds below which `share` of the requests stayed."""
        if not self.latencies_s:
            return 0.0
        return self.latencies_s[min(int(share * len(self.latencies_s)), len(self.latencies_s) - 1)]


class Target:
    """Host, port and path of a FHIR base; builds requests for it. `token`: an access token that each one carries."""

    def __init__(self, base: str, token: str | None = None) -> None:
        parts = urlsplit(base.rstrip("/"))
        if parts.scheme != "http" or not parts.hostname:
            raise SystemExit("The benchmark speaks plain http: --base http://host:port/path")
        self.host, self.port, self.path = parts.hostname, parts.port or 80, parts.path
        self.base = base.rstrip("/")
        self.authorization = f"Authorization: Bearer {token}\r\n" if token else ""

    def get(self, path: str, check: Callable[[bytes], str | None] | None = None) -> Request:
        head = (
            f"GET {self.path}/{path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\n"
            f"Accept: application/fhir+json\r\n{self.authorization}\r\n"
        )
        return Request(head.encode(), (200,), check)

    def send(
        self,
        method: str,
        path: str,
        body: bytes,
        expect: tuple[int, ...],
        headers: str = "",
        check: Callable[[bytes], str | None] | None = None,
    ) -> Request:
        slash = f"/{path}" if path else ""
        head = (
            f"{method} {self.path}{slash} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\n"
            f"Accept: application/fhir+json\r\n"
            f"Content-Type: application/fhir+json\r\nContent-Length: {len(body)}\r\n{self.authorization}{headers}\r\n"
        )
        return Request(head.encode() + body, expect, check)


class _Connection:
    __slots__ = ("buffer", "chunked", "head_end", "need", "request", "socket", "started", "status")

    def __init__(self, target: Target) -> None:
        self.socket = socket.create_connection((target.host, target.port), timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reset()
        self.request: Request | None = None
        self.started = 0.0

    def reset(self) -> None:
        self.buffer = b""
        self.need = -1
        self.head_end = -1
        self.chunked = False
        self.status = 0

    def feed(self, data: bytes) -> bytes | None:
        """The body once the answer is complete, else None."""
        self.buffer = self.buffer + data if self.buffer else data
        if self.head_end < 0:
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return None
            self.head_end = end + 4
            head = self.buffer[:end].lower()
            self.status = int(head[9:12])
            at = head.find(b"content-length:")
            if at >= 0:
                stop = head.find(b"\r\n", at)
                self.need = int(head[at + 15 : stop if stop > 0 else len(head)])
            elif b"transfer-encoding: chunked" in head:
                self.chunked = True
            else:
                self.need = 0
        if self.chunked:
            return self._unchunk() if self.buffer.endswith(b"0\r\n\r\n") else None
        if len(self.buffer) - self.head_end < self.need:
            return None
        return self.buffer[self.head_end :]

    def _unchunk(self) -> bytes:
        rest, parts = self.buffer[self.head_end :], []
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            length = int(size.split(b";")[0], 16)
            if length == 0:
                break
            parts.append(rest[:length])
            rest = rest[length + 2 :]
        return b"".join(parts)


def run(
    target: Target, requests: Iterator[Request], connections: int = 8, *, seconds: float | None = None, collect:
    Callable[[bytes], None] | None = None
) -> Result:  # fmt: skip
    """Sends `requests` over `connections` until they end or `seconds` have passed; each connection has one under way.

    Raises ConnectionError when the server closes a connection within an answer.
    """
    poll = select.epoll()
    by_fd: dict[int, _Connection] = {}
    clock = time.perf_counter
    latencies: list[float] = []
    result = Result(0.0, latencies)
    started = clock()
    stop_at = started + seconds if seconds else float("inf")

    def start(connection: _Connection) -> bool:
        if clock() >= stop_at:
            return False
        request = next(requests, None)
        if request is None:
            return False
        connection.request, connection.started = request, clock()
        connection.socket.sendall(request.data)
        return True

    active = 0
    try:
        for _ in range(connections):
            connection = _Connection(target)
            by_fd[connection.socket.fileno()] = connection
            poll.register(connection.socket, select.EPOLLIN)
        for connection in by_fd.values():
            active += start(connection)
        while active:
            for fd, _ in poll.poll(60):
                connection = by_fd[fd]
                data = connection.socket.recv(262144)
                if not data:
                    raise ConnectionError("The server closed a connection within an answer.")
                body = connection.feed(data)
                if body is None:
                    continue
                latencies.append(clock() - connection.started)
                request = connection.request
                assert request is not None
                fault = None
                if connection.status not in request.expect:
                    fault = f"status {connection.status} instead of {request.expect[0]}"
                elif request.check is not None:
                    fault = request.check(body)
                if fault:
                    result.wrong += 1
                    if len(result.faults) < 10:
                        result.faults.append(fault)
                result.body_bytes += len(body)
                if collect is not None:
                    collect(body)
                connection.reset()
                if not start(connection):
                    active -= 1
    finally:
        for connection in by_fd.values():
            connection.socket.close()
        poll.close()
    result.seconds = clock() - started
    latencies.sort()
    return result
