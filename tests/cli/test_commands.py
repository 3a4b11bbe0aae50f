"""What all commands have in common: help with an example, settings as flags, errors of one line."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest

from hestia.cli import explained, main
from hestia.settings import SETTINGS
from tests.support.command_line import free_port, run

COMMANDS = sorted(main.commands)


def test_the_commands_of_the_issues_are_there() -> None:
    stores = ("serve", "load", "export", "seed", "reindex", "backup", "restore", "check", "copy", "config")
    access = ("token", "demo", "account", "client", "key", "audit")
    assert sorted((*stores, *access)) == COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_an_example_and_every_setting(name: str) -> None:
    output = run(name, "--help").output
    assert f"Example: hestia {name}" in " ".join(output.split())
    assert all(setting.flag in output and setting.name in output for setting in SETTINGS)


@pytest.mark.parametrize("name", COMMANDS)
def test_example_can_be_typed(name: str) -> None:
    command = main.commands[name]
    example = (command.epilog or "").removeprefix("Example: hestia ").partition("   (")[0].split()
    assert example[0] == name
    for word in example[1:]:
        if word.startswith("-"):
            assert any(word in option.opts for option in command.params if isinstance(option, click.Option)), word


def test_help_and_version_of_the_whole() -> None:
    assert all(name in run("--help").output for name in COMMANDS)
    assert run("--version").output.startswith("hestia, version ")


def test_config_lists_every_setting_with_its_source_and_no_password() -> None:
    Path("hestia.toml").write_text('HESTIA_TIMEZONE = "Asia/Shanghai"\n')
    output = run(
        "config", "--port", "9000", HESTIA_STORE="mongodb://hestia:hunter2@db.example.org/h", HESTIA_WORKERS="3"
    ).output
    assert all(setting.name in output for setting in SETTINGS)
    lines = {line.split()[0]: " ".join(line.split()) for line in output.splitlines() if line.startswith("HESTIA_")}
    assert lines["HESTIA_PORT"] == "HESTIA_PORT 9000 (flag)"
    assert lines["HESTIA_WORKERS"] == "HESTIA_WORKERS 3 (environment)"
    assert lines["HESTIA_TIMEZONE"] == "HESTIA_TIMEZONE Asia/Shanghai (file)"
    assert lines["HESTIA_STORE"] == "HESTIA_STORE mongodb://hestia:***@db.example.org/h (environment)"
    assert "hunter2" not in output


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("check", "--store", "postgres://x"), "HESTIA_STORE (from the flag) must be sqlite:///relative/path"),
        (("check", "--store", "sqlite:///absent.db"), "There is no database at absent.db."),
        (("export", "out", "--store", "sqlite:///absent.db"), "There is no database at absent.db."),
        (("reindex", "--store", "sqlite:///absent.db"), "There is no database at absent.db."),
        (("backup", "x.db", "--store", "sqlite:///absent.db"), "There is no database at absent.db."),
        (("copy", "sqlite:///x.db", "--store", "sqlite:///absent.db"), "There is no database at absent.db."),
        (("check", "--store", "sqlite:///text.db"), "text.db is not a SQLite database."),
        (("restore", "text.db"), "text.db is not a SQLite database."),
        (("load", "text.db", "--store", "sqlite:///text.db/inside.db"), "File exists: text.db"),
        (("check", "--timezone", "Mars"), "HESTIA_TIMEZONE (from the flag) must be the name of a time zone"),
        (("check", "--config", "absent.toml"), "The settings file absent.toml does not exist."),
        (("check", "--config", "text.db"), "The settings file text.db is not TOML"),
        (("check", "--store", "mongodb://:@:x"), "The URI of the MongoDB store cannot be read"),
    ],
)
def test_error_is_one_line(arguments: tuple[str, ...], sentence: str) -> None:
    Path("text.db").write_text("this is a text and long enough to be one " * 200)
    output = run(*arguments, status=1).output
    assert output.startswith("Error: ")
    assert sentence in output
    assert output.count("\n") == 1


def test_absent_file_is_a_wrong_command_line() -> None:
    assert "Path 'absent' does not exist" in run("load", "absent", status=2).output


def test_mongodb_that_does_not_answer_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    uri = f"mongodb://127.0.0.1:{free_port()}/?serverSelectionTimeoutMS=100"
    monkeypatch.setattr("fhir_server.storage.mongo.open_store.__kwdefaults__", {
        "database": None, "busy_s": 0.2, "timeout_s": 0.2, "lease_s": 120.0, "listeners": (),
    })  # fmt: skip
    assert run("check", "--store", uri, status=1).output.startswith("Error: The store does not answer")


def test_fault_of_ours_is_not_explained_away() -> None:
    assert explained(KeyError("x")) is None
    assert explained(PermissionError(13, "Permission denied", "var")) == "Permission denied: var"


def test_seed_writes_bundles_that_load_as_the_demo() -> None:
    output = run("seed", "--patients", "1", "--to", "bundles").output
    files = sorted(Path("bundles").iterdir())
    assert output == f"{len(files)} Bundles written to bundles.\n"
    total = sum(len(json.loads(file.read_text())["entry"]) for file in files)
    assert f"{total:,} resources written." in run("load", "bundles").output
    again = run("seed", "--patients", "1").output
    assert f"0 resources written, {total:,} were there already" in again
    assert Path("var/hestia.db").is_file()
