"""Two profiles of where the time goes: ingest of transactions, and a mix of searches; in one process, without HTTP."""

from __future__ import annotations

import cProfile
import io
import json
import pstats
import random
import tempfile
from collections.abc import Callable
from typing import Any

from bench.corpus import Corpus
from bench.driver import Request, Target
from bench.steps import STEPS, Loaded
from hestia.composition import connect, identify, make_server
from hestia.settings import load as load_settings

_ROWS = 22


def profiles(corpus: Corpus) -> None:
    """Prints both profiles, by time spent in each function itself."""
    from fhir_server.app import create_app

    with tempfile.TemporaryDirectory(prefix="hestia-bench-") as place:
        settings = load_settings(
            {"store": f"sqlite:///{place}/profile.db", "data": place, "fulltext": "off", "demo": "off", "log": "quiet"},
            {},
        )
        store = connect(settings.store)
        identify(store, settings)
        app = create_app(make_server(settings, store))
        loaded = Loaded(corpus)

        def post(bundle: dict[str, Any]) -> list[str]:
            body = json.dumps(bundle).encode()
            answer = _call(app, b"POST /fhir HTTP/1.1\r\nContent-Type: application/fhir+json\r\n\r\n" + body)
            return ["/".join(entry["response"]["location"].split("/")[-4:-2]) for entry in json.loads(answer)["entry"]]

        loaded.practitioners = post(corpus.practitioners())
        loaded.patients.append(post(corpus.bundle(0, loaded.practitioners))[0])  # warms what is compiled at first use

        def ingest() -> None:
            for number in range(1, corpus.patients):
                references = post(corpus.bundle(number, loaded.practitioners))
                loaded.patients.append(references[0])
                loaded.observations.extend(
                    reference for reference in references if reference.startswith("Observation/")
                )

        _profile(f"ingest of {corpus.patients - 1} transactions of 70 resources", ingest)
        target = Target("http://localhost/fhir")
        chance = random.Random(3)
        searches: list[Request] = []
        for step in STEPS:
            if step.name not in ("create", "update with If-Match", "mixed 80/20"):
                requests = step.requests(target, loaded, chance)
                searches.extend(next(requests) for _ in range(60))
        chance.shuffle(searches)

        def search() -> None:
            for request in searches:
                _call(app, request.data)

        search()
        _profile(f"{len(searches)} reads and searches", search)
        store.close()


def _profile(title: str, work: Callable[[], None]) -> None:
    profile = cProfile.Profile()
    profile.enable()
    work()
    profile.disable()
    out = io.StringIO()
    pstats.Stats(profile, stream=out).sort_stats("tottime").print_stats(_ROWS)
    print(f"\n## Profile: {title}")
    for line in out.getvalue().splitlines():
        if line.strip() and not line.lstrip().startswith(("Ordered by", "List reduced")):
            head, slash, tail = line.rpartition("site-packages/")
            print(line if not slash else f"{' '.join(head.split(' ')[:-1])} {tail}")


def _call(app: Callable[..., Any], raw: bytes) -> bytes:
    head, _, body = raw.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    method, path, _ = lines[0].split(" ")
    path, _, query = path.partition("?")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "wsgi.url_scheme": "http",
    }
    for line in lines[1:]:
        name, _, value = line.partition(": ")
        key = name.upper().replace("-", "_")
        environ[key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"] = value
    status: list[str] = []
    answer = b"".join(app(environ, lambda text, headers: status.append(text)))
    if status[0][:1] not in "23":
        raise SystemExit(f"{method} {path}: {status[0]} {answer[:300]!r}")
    return answer
