"""The MongoDB server that tests run against.

Order of choice: ``HESTIA_TEST_MONGODB_URI``; ``mongod`` on PATH, started as a replica set of one node; SecantusDB, a
server of its own that speaks MongoDB's protocol over the same storage engine, as a separate process. None of them is a
failure, never a skip.
"""

from __future__ import annotations

import atexit
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pymongo
from pymongo.errors import PyMongoError

START_S = 60.0


class NoMongoDB(Exception):
    """No server could be found or started; the tests that need one fail with it."""


@dataclass(slots=True)
class Server:
    """A running server. `name` is what it says of itself; `genuine` is True for MongoDB's own mongod."""

    uri: str
    name: str
    genuine: bool
    process: subprocess.Popen[bytes] | None = None
    directory: str | None = None
    command: tuple[str, ...] = ()

    def stop(self) -> None:
        """Ends the process, if it is ours, and removes its directory."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(20)
        if self.directory is not None:
            shutil.rmtree(self.directory, ignore_errors=True)

    def kill(self) -> None:
        """Ends the process as a power cut would: nothing of it is told."""
        assert self.process is not None, "Only a server that the tests started may be killed."
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(20)

    def start_again(self) -> None:
        """Starts a killed server on the same directory and port."""
        assert self.directory is not None
        self.process = _launch(self.command, self.directory)
        _wait(self.uri, self.process, self.directory)


_server: Server | None = None
_named = 0

NAMES: Final = 40
"""Databases after which the stand-in is replaced: it becomes slow with hundreds of them."""


def server() -> Server:
    """The server of this test run, started at the first call; printed once. Raises: NoMongoDB."""
    global _server
    if _server is None:
        _server = start()
        atexit.register(_server.stop)
        print(f"MongoDB for tests: {_server.name}", file=sys.__stderr__, flush=True)
    return _server


def start(*, private: bool = False) -> Server:
    """A server of the best kind there is. `private`: one of our own even if a URI is given, so that it may be
    killed."""
    uri = os.environ.get("HESTIA_TEST_MONGODB_URI")
    if uri and not private:
        name, genuine = _identify(uri)
        return Server(uri, f"{name} at HESTIA_TEST_MONGODB_URI", genuine)
    directory = tempfile.mkdtemp(prefix="hestia-mongodb-")
    port = _free_port()
    mongod = shutil.which("mongod")
    if mongod is not None:
        command: tuple[str, ...] = (
            mongod,
            "--dbpath",
            directory,
            "--port",
            str(port),
            "--bind_ip",
            "127.0.0.1",
            "--replSet",
            "hestia",
            "--wiredTigerCacheSizeGB",
            "0.5",
        )
        uri = f"mongodb://127.0.0.1:{port}/?replicaSet=hestia"
    else:
        stand_in = _secantus()
        if stand_in is None:
            shutil.rmtree(directory, ignore_errors=True)
            raise NoMongoDB(
                "No MongoDB server for the tests: set HESTIA_TEST_MONGODB_URI, put mongod on PATH, or install the test"
                " extra (SecantusDB)."
            )
        command = (
            stand_in,
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--storage-path",
            directory,
            "--sync-on-commit",
        )
        uri = f"mongodb://127.0.0.1:{port}/"
    process = _launch(command, directory)
    try:
        if mongod is not None:
            _initiate(port, process, directory)
        _wait(uri, process, directory)
        name, genuine = _identify(uri)
    except BaseException:
        Server(uri, "", False, process, directory).stop()
        raise
    return Server(uri, name, genuine, process, directory, command)


def renew() -> None:
    """Between two modules of tests: ends a server of ours that holds many databases; the next test starts another."""
    global _server, _named
    if _server is not None and _server.process is not None and not _server.genuine and _named >= NAMES:
        _server.stop()
        _server, _named = None, 0


def fresh_name() -> str:
    """A database name that no other test uses."""
    global _named
    _named += 1
    return f"hestia_test_{secrets.token_hex(6)}"


_clients: dict[str, pymongo.MongoClient[dict[str, Any]]] = {}


def drop(uri: str, database: str) -> None:
    """Removes a database of the tests from a server that outlives them.

    One that the tests started is removed whole: there, dropping would take longer than the tests.
    """
    if _server is not None and _server.uri == uri and _server.process is not None:
        return
    client = _clients.get(uri)
    if client is None:
        client = _clients[uri] = pymongo.MongoClient(uri, serverSelectionTimeoutMS=5000)
        atexit.register(client.close)
    client.drop_database(database)


def _launch(command: tuple[str, ...], directory: str) -> subprocess.Popen[bytes]:
    with open(Path(directory).with_suffix(".log"), "ab") as log:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)


def _secantus() -> str | None:
    beside = Path(sysconfig.get_path("scripts")) / "secantusd-py"
    return str(beside) if beside.exists() else shutil.which("secantusd-py")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _identify(uri: str) -> tuple[str, bool]:
    with pymongo.MongoClient[dict[str, Any]](uri, serverSelectionTimeoutMS=10_000) as client:
        build = client.admin.command("buildInfo")
    if "secantusVersion" in build:
        return f"SecantusDB {build['secantusVersion']} (answers as MongoDB {build['version']})", False
    return f"MongoDB {build['version']}", True


def _initiate(port: int, process: subprocess.Popen[bytes], directory: str) -> None:
    uri = f"mongodb://127.0.0.1:{port}/?directConnection=true"
    _wait(uri, process, directory, primary=False)
    with pymongo.MongoClient[dict[str, Any]](uri) as client:
        client.admin.command("replSetInitiate", {"_id": "hestia", "members": [{"_id": 0, "host": f"127.0.0.1:{port}"}]})


def _wait(uri: str, process: subprocess.Popen[bytes], directory: str, *, primary: bool = True) -> None:
    """Until the server answers, as a primary where that matters. Raises: NoMongoDB."""
    deadline = time.monotonic() + START_S
    with pymongo.MongoClient[dict[str, Any]](uri, serverSelectionTimeoutMS=500, connectTimeoutMS=500) as client:
        while True:
            try:
                hello = client.admin.command("hello")
                if hello.get("isWritablePrimary") or not primary:
                    return
            except PyMongoError:
                pass
            if process.poll() is not None or time.monotonic() > deadline:
                log = Path(directory).with_suffix(".log")
                said = log.read_text(errors="replace")[-2000:] if log.exists() else ""
                raise NoMongoDB(f"The MongoDB server for the tests did not start:\n{said}")
            time.sleep(0.1)
