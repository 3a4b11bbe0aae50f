"""Whatever is sent: no 5xx, an OperationOutcome on every error, and no value of a request in it.

R4 http.html#Status-Codes.

The requests are random, and the same in every run. A marker is planted in bodies and searches; it must not come back in
the text of an issue.
"""

from __future__ import annotations

import gzip
import io
import json
import random
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, quote_from_bytes

import pytest

from fhir_server.app import create_app, create_server
from fhir_server.context import Settings
from fhir_server.definitions import required_codes, resource_types
from fhir_server.search.registry import builtin
from fhir_server.storage.sqlite import open_store
from terminology import ucum
from terminology.local import Local
from tests.support import examples
from tests.support.http import BASE, Client
from tests.support.resources import observation, patient

MARKER = "Zyx77Qqv"
CODES = {
    code for codes in required_codes()["http://hl7.org/fhir/ValueSet/issue-type"]["systems"].values() for code in codes
}
TYPES = ("Patient", "Observation", "Bundle", "ValueSet", "Questionnaire", "Encounter", "Location", "Binary", "Group")
JSON = "application/fhir+json"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A server with a few resources, whose policy of bodies is small enough to be exceeded."""
    store = open_store(tmp_path_factory.mktemp("fuzz") / "hestia.db")
    settings = Settings(base_url=BASE, max_body=2_000_000)
    server = create_server(settings, store, terminology=Local, units=ucum.canonical)
    client = Client(create_app(server), server)
    client.store(patient("a", active=True), observation("o", "Patient/a"))
    yield client
    store.close()


def checked(client: Client, environ: dict[str, Any]) -> int:
    """The status of a request, after everything that all answers owe was looked at."""
    started: list[Any] = []
    told = {"REQUEST_METHOD": "GET", "PATH_INFO": "/fhir/", "QUERY_STRING": "", "wsgi.input": io.BytesIO(), **environ}
    shown = {name: value for name, value in told.items() if name != "wsgi.input"}
    body = b"".join(client.application(told, lambda status, headers: started.extend((status, headers))))
    status = int(started[0][:3])
    headers = {name.lower(): value for name, value in started[1]}
    for name, value in headers.items():
        assert name.isascii(), shown
        assert value.isprintable(), shown
        assert "\n" not in value, shown
    assert status < 500, (status, shown, body[:500])
    if status >= 400 and told["REQUEST_METHOD"] != "HEAD":
        if headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        if headers["content-type"].startswith("application/fhir+xml"):
            assert b"<OperationOutcome " in body, shown
            assert MARKER.encode() not in body, shown
        else:
            outcome = json.loads(body)
            assert outcome["resourceType"] == "OperationOutcome", shown
            assert outcome["issue"], shown
            for issue in outcome["issue"]:
                assert issue["code"] in CODES, (shown, issue)
                assert issue["severity"] in ("fatal", "error", "warning", "information"), shown
                assert issue["diagnostics"], shown
            assert MARKER.lower() not in body.decode().lower(), (shown, outcome)
    elif status == 200 and b'"mode":"outcome"' in body:
        issues = [
            issue
            for entry in json.loads(body)["entry"]
            if entry["search"]["mode"] == "outcome"
            for issue in entry["resource"]["issue"]
        ]
        assert issues, shown
        assert MARKER.lower() not in json.dumps(issues).lower(), (shown, issues)
    return status


def sent(method: str, path: str, body: bytes, content_type: str = JSON, **headers: str) -> dict[str, Any]:
    """The environ of a request with a body."""
    return {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "CONTENT_LENGTH": str(len(body)),
        "CONTENT_TYPE": content_type,
        "wsgi.input": io.BytesIO(body),
        **headers,
    }


# --- searches ---------------------------------------------------------------------------------------------------------

ATOMS = (
    MARKER, "1", "-1", "1e400", "9" * 400, "0.0000001", "NaN", "2020-01-01", "9999-12-31T23:59:60.999999999999Z",
    "0001",
    "2020-02-30", "2020-01-01T00:00:00 02:00", "gt", "ge", "sa" + MARKER, "|", "||", "|||", "$", "$$", ",", "\\",
    "\\,",
    "Patient/a", "Patient/" + MARKER, "#x", "http://", "http://loinc.org|" + MARKER, "urn:uuid:" + MARKER, "true",
    "null",
    "中文", "e\u0301", "\U0001f600", "\u202e", "'", '"', "(", "[", "%", "*", ".*", "_", "a" * 300, "-", "--",
    "0|0|1|km",
    "90|180|0|m", "a$b$c$d", " ", "\t", "name eq " + MARKER, "not (a eq b)", "Observation:subject", "Patient.name",
)  # fmt: skip
NAMES = (
    "_id", "_lastUpdated", "_tag", "_profile", "_security", "_source", "_text", "_content", "_list", "_type",
    "_filter",
    "_query", "_sort", "_count", "_include", "_revinclude", "_include:iterate", "_summary", "_elements", "_total",
    "_contained", "_containedType", "_format", "_pretty", "_explain", "_cursor", "_since", "_at", "_has", "nonsense",
    "",
)  # fmt: skip
MODIFIERS = (
    "", "", "", "", ":missing", ":exact", ":contains", ":not", ":text", ":above", ":below", ":of-type", ":identifier",
    ":Patient", ":Nonsense", ":", "::", ":x-y", ".name", ".x.y.z", ":Patient.name", ":Patient._has:Group:member:code",
)  # fmt: skip


def name_of(dice: random.Random, type_name: str) -> str:
    codes = list(builtin().params(type_name))
    kind = dice.random()
    if kind < 0.6:
        return dice.choice(codes) + dice.choice(MODIFIERS)
    if kind < 0.7:
        source = dice.choice(TYPES)
        return f"_has:{source}:{dice.choice(list(builtin().params(source)))}:{dice.choice(codes)}"
    return dice.choice(NAMES) + (dice.choice(MODIFIERS) if kind > 0.93 else "")


def value_of(dice: random.Random) -> str:
    parts = [dice.choice(ATOMS) for _ in range(dice.choice((1, 1, 1, 2, 3, 5)))]
    return dice.choice(("", "", "|", ",", "$", " ")).join(parts)


def encoded(dice: random.Random, text: str) -> str:
    kind = dice.random()
    if kind < 0.9:
        return quote(text, safe="")
    if kind < 0.95:
        return quote_from_bytes(dice.randbytes(dice.randint(1, 12)), safe="")
    return text.encode().decode("latin-1").replace("&", "")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_random_searches_are_answered_or_refused(client: Client, seed: int) -> None:
    dice = random.Random(seed)
    seen = set()
    for _ in range(500):
        type_name = dice.choice(TYPES)
        pairs = []
        for _ in range(dice.choice((1, 1, 1, 2, 4))):
            name, value = name_of(dice, type_name), value_of(dice)
            if name == "_sort":
                # The values of `_sort` are names, which a warning may repeat.
                value = value.replace(MARKER, "nonsense")
            pairs.append(f"{quote(name, safe=':.')}={encoded(dice, value)}")
        path = dice.choice((f"/fhir/{type_name}",) * 4 + ("/fhir/", f"/fhir/Patient/a/{type_name}", "/fhir/_history"))
        query = "&".join(pairs)
        if dice.random() < 0.1 and path == f"/fhir/{type_name}":
            form = query.encode("latin-1")
            seen.add(checked(client, sent("POST", path + "/_search", form, "application/x-www-form-urlencoded")))
        else:
            seen.add(checked(client, {"PATH_INFO": path, "QUERY_STRING": query}))
    assert {200, 400} <= seen


@pytest.mark.parametrize(
    "query",
    [
        "&".join(f"name=x{number}" for number in range(10_000)),
        "&".join(f"p{number}=x" for number in range(10_000)),
        "name=" + "x" * 100_000,
        "name=" + ",".join("x" * 9 for _ in range(10_000)),
        "birthdate=" + ",".join(f"ge{1000 + number}" for number in range(5_000)),
        "identifier=" + "|" * 100_000,
        "name=" + "\\" * 100_000,
        "name=" + "%00" * 1_000,
        "name=a%00b",
        "name=%ff%fe",
        "name=%ed%a0%80",
        "name=%",
        "name=%zz",
        "name=\xff",
        "&" * 100_000,
        "=" * 100_000,
        "_has:" * 1_000 + "=x",
        ":" * 1_000 + "=x",
        "link." * 1_000 + "name=x",
        "_sort=" + ",".join(["name"] * 1_000),
        "_include=" + ",".join(["Patient:link"] * 1_000),
        "&".join(["_revinclude=*"] * 50),
        "_elements=" + ",".join(["name"] * 10_000),
        "_filter=" + "(" * 5_000,
        "_filter=" + "not " * 5_000 + "name eq x",
        "_filter=" + " and ".join(["name eq x"] * 2_000),
        "_filter=" + "name eq x and (" * 500,
        "_cursor=" + "A" * 10_000,
        "_cursor=%00",
        "_text=" + "中" * 3_000,
        "_text=" + " ".join(f"w{number}" for number in range(5_000)),
        "phonetic=" + "ph" * 5_000,
        "_id=" + ",".join(f"i{number}" for number in range(20_000)),
        "_type=" + ",".join(["Patient"] * 5_000),
        "near=" + "|".join(["1"] * 1_000),
        "_count=" + "9" * 5_000,
        "_lastUpdated=" + "9" * 5_000,
    ],
    ids=lambda query: query[:16].encode("unicode_escape").decode() + f"-{len(query)}",
)
def test_extreme_queries_are_answered_or_refused(client: Client, query: str) -> None:
    for path in ("/fhir/Patient", "/fhir/", "/fhir/Patient/a/Observation"):
        checked(client, {"PATH_INFO": path, "QUERY_STRING": query})
    form = query.encode("latin-1", "replace")
    checked(client, sent("POST", "/fhir/Patient/_search", form, "application/x-www-form-urlencoded"))


# --- paths and headers ------------------------------------------------------------------------------------------------

SEGMENTS = (
    "Patient", "Observation", "a", "_history", "1", "_search", "$validate", "$meta", "$nonsense", "$reindex",
    "metadata",
    "..", ".", "", "%00", "\x00", "\xff\xfe", "a" * 300, MARKER, "*", "Bundle", "Parameters", "\xc3\xa9", "a b", "-",
)  # fmt: skip
HEADERS = (
    "HTTP_ACCEPT", "HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH", "HTTP_IF_MODIFIED_SINCE", "HTTP_IF_NONE_EXIST",
    "HTTP_PREFER",
    "HTTP_ACCEPT_ENCODING", "HTTP_CONTENT_ENCODING", "CONTENT_TYPE", "CONTENT_LENGTH", "HTTP_ORIGIN",
    "HTTP_X_REQUEST_ID",
    "HTTP_X_SECURITY_CONTEXT",
)  # fmt: skip
HEADER_VALUES = (
    "", "*", "*/*", ";", ",", ";;q=,", "application/fhir+json", "application/fhir+xml", "text/html", "a/b;q=x",
    "gzip",
    "gzip;q=nan", "deflate", 'W/"1"', '"1"', 'W/"', '"', "W/1", "1", "-1", "1" * 400, "x" * 5_000, "\xff\xfe",
    "return=minimal",
    "return=", "handling=strict", "respond-async", "identifier=" + MARKER, "birthdate=" + MARKER, "?", "&&&",
    "name=%ff",
    "Thu, 01 Jan 2026 12:00:00 GMT", "Thu, 99 Jan 0000 99:00:00 GMT", "Mon, 01 Jan 99999 00:00:00 GMT", "null",
    'W/"' + MARKER + '"', "application/fhir+json; fhirVersion=" + MARKER, "application/fhir+json; charset=" + MARKER,
)  # fmt: skip
METHODS = ("GET", "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW", "", "get", MARKER)
BODIES = (
    b"",
    b"{}",
    b"[]",
    b"null",
    b"\xff",
    b"<",
    b'{"resourceType":"Patient","id":"a","active":true}',
    b"\x1f\x8b\x08",
)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_random_paths_and_headers_are_answered_or_refused(client: Client, seed: int) -> None:
    dice = random.Random(seed)
    for _ in range(600):
        path = "/fhir/" + "/".join(dice.choice(SEGMENTS) for _ in range(dice.choice((0, 1, 2, 2, 3, 4, 6))))
        environ = sent(dice.choice(METHODS), path, dice.choice(BODIES))
        for name in dice.sample(HEADERS, dice.choice((0, 1, 1, 2, 3))):
            environ[name] = dice.choice(HEADER_VALUES)
        if dice.random() < 0.3:
            environ["QUERY_STRING"] = f"{name_of(dice, 'Patient')}={encoded(dice, value_of(dice))}"
        checked(client, environ)


# --- bodies -----------------------------------------------------------------------------------------------------------


def nested(depth: int) -> Any:
    value: Any = {"url": "http://x", "valueBoolean": True}
    for _ in range(depth):
        value = {"url": "http://x", "extension": [value]}
    return [value]


LEAVES: tuple[Callable[[], Any], ...] = (
    lambda: None, lambda: MARKER, lambda: 10**30, lambda: -1, lambda: 1.5, lambda: True, list, dict, lambda: "",
    lambda: [None], lambda: [[MARKER]], lambda: {"x": MARKER}, lambda: " " + MARKER, lambda: MARKER * 1_000,
    lambda: "Patient/" + MARKER, lambda: "#" + MARKER, lambda: "urn:uuid:" + MARKER, lambda: "2020-13-45",
    lambda: f"<div>{MARKER}<script/></div>",
    lambda: f'<div xmlns="http://www.w3.org/1999/xhtml" {MARKER}="1">x</div>',
    lambda: "a\u0000b", lambda: "\ud800", lambda: "\u202e" + MARKER, lambda: {"resourceType": "Patient"},
    lambda: {"resourceType": MARKER}, lambda: nested(20), lambda: {"extension": nested(3)}, lambda: [MARKER] * 50,
)  # fmt: skip


def places(value: Any, found: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """(container, key) of everything inside a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found.append((value, key))
        places(inner, found)
    return found


@pytest.fixture(scope="module")
def small_examples() -> list[bytes]:
    """An example of every type, none above 20 kB."""
    by_type: dict[str, bytes] = {}
    for file, text in examples.texts():
        type_name = file.partition("-")[0]
        if type_name in resource_types() and len(text) < 20_000 and file != examples.REFUSED:
            by_type.setdefault(type_name, text)
    return list(by_type.values())


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_mutated_examples_are_stored_or_refused(client: Client, small_examples: list[bytes], seed: int) -> None:
    dice = random.Random(seed)
    statuses = set()
    for text in small_examples:
        resource = json.loads(text)
        type_name, id_ = resource["resourceType"], resource["id"]
        for _ in range(dice.randint(1, 3)):
            container, key = dice.choice(places(resource, []))
            kind = dice.random()
            if kind < 0.15:
                del container[key]
                continue
            container[key] = dice.choice(LEAVES)()
            if kind > 0.9 and isinstance(container, dict):
                container["_" + str(key)] = dice.choice(LEAVES)()
        body = json.dumps(resource).encode()
        way = dice.random()
        if way < 0.6:
            environ = sent("PUT", f"/fhir/{type_name}/{id_}", body)
        elif way < 0.7:
            environ = sent("POST", f"/fhir/{type_name}", body)
        elif way < 0.8:
            environ = sent("POST", f"/fhir/{type_name}/$validate", body)
        else:
            entry = {"resource": resource, "request": {"method": "PUT", "url": f"{type_name}/{id_}"}}
            kind = dice.choice(("batch", "transaction"))
            environ = sent(
                "POST", "/fhir/", json.dumps({"resourceType": "Bundle", "type": kind, "entry": [entry]}).encode()
            )
        if dice.random() < 0.2:
            environ["HTTP_ACCEPT"] = "application/fhir+xml"
        statuses.add(checked(client, environ))
    assert statuses >= {200, 400}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_damaged_bytes_are_stored_or_refused(client: Client, small_examples: list[bytes], seed: int) -> None:
    dice = random.Random(seed)
    junk = (
        b"\x00",
        b"\xff",
        b"\xed\xa0\x80",
        b'"',
        b"{",
        b"}",
        b"[",
        b",",
        b"\\u0000",
        b"\\ud800",
        b"\xef\xbb\xbf",
        b"1e999999999",
    )
    for text in small_examples:
        name = json.loads(text)
        damaged = bytearray(text)
        for _ in range(dice.randint(1, 4)):
            at = dice.randrange(len(damaged))
            match dice.randrange(4):
                case 0:
                    damaged[at : at + 1] = dice.choice(junk)
                case 1:
                    del damaged[at : at + dice.randint(1, 40)]
                case 2:
                    damaged[at] ^= 1 << dice.randrange(8)
                case _:
                    damaged[at:at] = damaged[max(0, at - 200) : at]
        body = bytes(damaged)
        kind = dice.choice((JSON, JSON, JSON, "application/fhir+xml", "application/json; charset=utf-8"))
        checked(client, sent("PUT", f"/fhir/{name['resourceType']}/{name['id']}", body, kind))
        checked(client, sent("POST", "/fhir/", body, kind))


def deep(opening: str, closing: str, depth: int) -> bytes:
    return (opening * depth + closing * depth).encode()


@pytest.mark.parametrize(
    "body",
    [
        deep("[", "]", 100_000),
        deep('{"a":', "}", 50_000)[:-1],
        b'{"resourceType":"Patient","extension":' + deep('[{"url":"x","extension":', "}]", 10_000) + b"}",
        b'{"resourceType":"Patient","contained":' + deep('[{"resourceType":"Patient","contained":', "}]", 1_000) + b"}",
        b'{"resourceType":"Patient","multipleBirthInteger":' + b"9" * 100_000 + b"}",
        b'{"resourceType":"Patient","multipleBirthInteger":1e' + b"9" * 1_000 + b"}",
        b'{"resourceType":"Patient","multipleBirthInteger":-' + b"0" * 1_000 + b"}",
        b'{"resourceType":"Patient","id":"\x00"}',
        b'{"resourceType":"Patient","name":[{"family":"\xff\xfe"}]}',
        b'{"resourceType":"Patient","name":[{"family":"\\ud800"}]}',
        b'{"resourceType":"Patient","name":[{"family":"\\u0000"}]}',
        b'\xef\xbb\xbf{"resourceType":"Patient"}',
        '{"resourceType":"Patient"}'.encode("utf-16"),
        b'{"resourceType":"Patient","name":' + b"[" + b'{"family":"x"},' * 100_000 + b'{"family":"x"}]}',
        b'{"resourceType":"Patient","x":1' + b',"x":1' * 100_000 + b"}",
        b'{"resourceType":"Patient","%s":1}' % (MARKER.encode() * 10_000),
        b'{"resourceType":"' + MARKER.encode() * 100 + b'"}',
        b'{"resourceType":"Patient","text":{"status":"generated","div":"' + b"<b>" * 50_000 + b'"}}',
        b'{"resourceType":"Patient","text":{"div":"<!DOCTYPE a [<!ENTITY b \'c\'>]><div>&b;</div>"}}',
        b'{"resourceType":"Bundle","type":"transaction","entry":' + b"[" + b"{}," * 50_000 + b"{}]}",
        b'{"resourceType":"Bundle","type":"batch","entry":[{"request":{"method":"GET","url":"'
        + b"x?" * 50_000
        + b'"}}]}',
        b'{"resourceType":"Bundle","type":"transaction","entry":[null,1,"x",[],{"request":null},{"request":{"method":1}}]}',
        b"x" * 2_000_001,
        b"<" * 100_000,
        b"<Patient xmlns='http://hl7.org/fhir'>" + b"<extension url='x'>" * 20_000,
        b"<!DOCTYPE a SYSTEM 'file:///etc/passwd'><Patient xmlns='http://hl7.org/fhir'/>",
        b"<!DOCTYPE a [<!ENTITY b 'bbbbbbbbbb'>]><Patient xmlns='http://hl7.org/fhir'><id value='&b;'/></Patient>",
    ],
    ids=lambda body: body[:24].decode("latin-1").encode("unicode_escape").decode() + f"-{len(body)}",
)
def test_extreme_bodies_are_refused(client: Client, body: bytes) -> None:
    kind = "application/fhir+xml" if body.startswith(b"<") else JSON
    for method, path in (("POST", "/fhir/Patient"), ("PUT", "/fhir/Patient/a"), ("POST", "/fhir/Patient/$validate")):
        status = checked(client, sent(method, path, body, kind))
        assert status >= 400 or b'{"family":"x"}' in body or path.endswith("$validate")
    checked(client, sent("POST", "/fhir/", body, kind))
    checked(client, sent("PATCH", "/fhir/Patient/a", body, "application/json-patch+json"))
    checked(client, sent("PATCH", "/fhir/Patient/a", body, kind))
    checked(client, sent("POST", "/fhir/Binary", body, "text/plain"))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_random_patches_are_applied_or_refused(client: Client, seed: int) -> None:
    dice = random.Random(seed)
    pointers = (
        "",
        "/",
        "/active",
        "/name/0",
        "/name/-",
        "/name/x",
        "/id",
        "/meta/versionId",
        "/~2",
        "/nonsense",
        "//",
        7,
    )
    operations = ("add", "remove", "replace", "move", "copy", "test", "nonsense", None)
    paths = (
        "Patient", "Patient.active", "Patient.name[0]", "Patient.name.where(family='x')", "Patient.id", MARKER, "(",
        "1/0",
        "Patient.name.repeat($this)", "Observation", "%resource", "'" + MARKER + "'", "Patient.name[99999999999]", "",
    )  # fmt: skip
    kinds = ("add", "insert", "delete", "replace", "move", "nonsense")
    for _ in range(200):
        if dice.random() < 0.5:
            patch: Any = [
                {
                    key: value
                    for key, value in (
                        ("op", dice.choice(operations)),
                        ("path", dice.choice(pointers)),
                        ("from", dice.choice(pointers)),
                        ("value", dice.choice(LEAVES)()),
                    )
                    if dice.random() < 0.9
                }
                for _ in range(dice.randint(1, 3))
            ]
            body = json.dumps(patch).encode()
            checked(client, sent("PATCH", "/fhir/Patient/a", body, "application/json-patch+json"))
            continue
        parts = [
            {"name": "type", "valueCode": dice.choice(kinds)},
            {"name": "path", "valueString": dice.choice(paths)},
            {"name": "name", "valueString": dice.choice(("active", "name", "id", "nonsense", ""))},
            {
                "name": "value",
                dice.choice(("valueString", "valueBoolean", "valueHumanName", "x")): dice.choice(LEAVES)(),
            },
            {"name": "index", "valueInteger": dice.choice((0, -1, 10**10, "0"))},
        ]
        body = json.dumps(
            {
                "resourceType": "Parameters",
                "parameter": [{"name": "operation", "part": dice.sample(parts, dice.randint(1, 5))}],
            }
        ).encode()
        checked(client, sent("PATCH", "/fhir/Patient/a", body))
