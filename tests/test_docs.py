"""The documents say what the code does: settings, commands, operations, errors, examples."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from werkzeug.test import Client

from fhir_server import errors
from fhir_server.app import create_app
from fhir_server.interactions.dispatch import OPERATIONS
from hestia.cli import main
from hestia.composition import opened
from hestia.settings import SETTINGS, load

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
EXAMPLES = ("read", "transaction", "search")
"""In the order in which they are run: the searches find what the transaction wrote."""


def text(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def rows(document: str, first: str) -> list[list[str]]:
    """The cells of the table whose head begins with `first`."""
    table = document[document.index(f"| {first} |") :].partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def test_settings_table_is_that_of_the_code() -> None:
    documented = {row[0].strip("` |"): row[1].strip("` |") for row in rows(text("operating.md"), "Name")}
    # Two defaults are made of other settings.
    computed = {"HESTIA_STORE": "sqlite:///var/hestia.db", "HESTIA_BASE_URL": "http://HOST:PORT/fhir"}
    assert documented == {one.name: computed.get(one.name, one.default) for one in SETTINGS}
    assert load({}, {}).store == computed["HESTIA_STORE"]
    assert load({}, {}).base_url == "http://127.0.0.1:8080/fhir"


def test_commands_are_listed() -> None:
    documented = {row[0].strip("` |") for row in rows(text("operating.md"), "Command")}
    assert documented == set(main.commands)


def test_operations_are_those_of_the_code() -> None:
    assert set(re.findall(r"\$([a-z]+(?:-[a-z]+)*)", text("rest.md"))) == set(OPERATIONS)


def test_error_classes_are_those_of_the_code() -> None:
    documented = {tuple(cell.strip("` |") for cell in row[:3]) for row in rows(text("errors.md"), "Class")}
    classes = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, errors.FhirError)]
    assert documented == {(one.__name__, str(one.status), one.code) for one in classes}


def test_every_link_between_documents_leads_somewhere() -> None:
    dead = []
    for document in [*DOCS.rglob("*.md"), *ROOT.glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8")):
            if not urlsplit(target).scheme and not (document.parent / target).exists():
                dead.append(f"{document.relative_to(ROOT)}: {target}")
    assert dead == []


def requests(name: str) -> Iterator[tuple[str, int, str, str, dict[str, str], bytes]]:
    """(title, expected status, method, path and query, headers, body) of each request of an example."""
    document = text(f"examples/{name}.http")
    for block in re.split(r"(?m)^### ", document)[1:]:
        title, _, rest = block.partition("\n")
        expected, _, rest = rest.removeprefix("# answers ").partition("\n")
        head, _, body = rest.partition("\n\n")
        first, *lines = head.splitlines()
        method, url = first.split(" ")
        headers = dict(line.split(": ", 1) for line in lines)
        yield title, int(expected), method, url.replace("{{base}}", "/fhir"), headers, body.strip().encode()


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    store = tmp_path_factory.mktemp("examples") / "store.db"
    with opened(load({"store": f"sqlite:///{store}", "log": "quiet"}, {})) as server:
        yield Client(create_app(server))


def test_examples_answer_what_they_say(client: Client) -> None:
    assert {path.name for path in (DOCS / "examples").iterdir()} == {
        *(f"{name}.http" for name in EXAMPLES),
        "sample-app",
    }
    for name in EXAMPLES:
        found = list(requests(name))
        assert found
        for title, expected, method, url, headers, body in found:
            path, _, query = url.partition("?")
            with client.open(
                path, method=method, query_string=quote(query, safe="=&:$,|/;."), headers=headers, data=body
            ) as answer:
                assert answer.status_code == expected, (name, title, answer.get_data(as_text=True))
            if name == "search" and expected == 200 and "explain" not in url and "colour" not in url:
                assert answer.get_json(force=True)["entry"], title


def tracked() -> list[Path]:
    """The files of the repository; outside of git, those below its root that are sources."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode == 0:
        return [path for name in listed.stdout.decode().split("\0") if name and (path := ROOT / name).is_file()]
    folders = ("bench", "docs", "fhir_server", "hestia", "scripts", "seed", "terminology", "tests")
    return [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]


def test_no_file_names_a_machine_or_a_package_registry() -> None:
    # Written so that this file does not contain what it looks for.
    forbidden = re.compile(
        "|".join(("/wo" + "rk/", "/tm" + "p/", "registry" + r"\.npm", "pypi" + r"\.org", "python" + "hosted"))
    )
    found = []
    for path in tracked():
        data = path.read_bytes()
        if b"\0" in data[:4096] or path.suffix in (".gz", ".zip"):
            continue
        for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
            if forbidden.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}")
    assert found == []
