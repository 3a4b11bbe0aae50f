"""Settings: flags over environment over file over default; the same names everywhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from hestia.settings import SETTINGS, SettingsError, as_text, load


def test_flag_wins_over_environment_over_file_over_default(tmp_path: Path) -> None:
    file = tmp_path / "hestia.toml"
    file.write_text('HESTIA_PORT = 1111\nHESTIA_WORKERS = 3\nHESTIA_HOST = "0.0.0.0"\n')
    found = load({"port": "3333"}, {"HESTIA_PORT": "2222", "HESTIA_WORKERS": "4"}, file)
    assert (found.port, found.workers, found.host, found.timezone) == (3333, 4, "0.0.0.0", "UTC")
    assert (found.source["port"], found.source["workers"], found.source["host"]) == ("flag", "environment", "file")
    assert found.source["timezone"] == "default"


def test_environment_of_workers_parses_to_the_same_settings() -> None:
    first = load({"store": "mongodb://h/x", "integrity": "on", "base_aliases": "https://a/fhir,https://b/fhir"}, {})
    second = load({}, first.environment())
    assert all(getattr(first, setting.field) == getattr(second, setting.field) for setting in SETTINGS)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("port", "0"),
        ("port", "x"),
        ("store", "postgres://x"),
        ("store", "sqlite:///"),
        ("base_url", "ftp://x"),
        ("base_url", "/fhir"),
        ("timezone", "Mars/Olympus"),
        ("validation", "lax"),
        ("auth", "sometimes"),
        ("integrity", "maybe"),
        ("max_body", "-1"),
        ("chain_limit", "0"),
    ],
)
def test_unusable_value_is_refused_with_the_setting_named(name: str, text: str) -> None:
    with pytest.raises(SettingsError, match=f"HESTIA_{name.upper()} "):
        load({name: text}, {})


def test_unknown_name_in_the_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "hestia.toml"
    file.write_text('HESTIA_PROT = "1"\n')
    with pytest.raises(SettingsError, match="HESTIA_PROT"):
        load({}, {}, file)


@pytest.mark.parametrize(("text", "size"), [("64MB", 64_000_000), ("5", 5), ("2k", 2_000), ("1 GB", 1_000_000_000)])
def test_sizes_take_units(text: str, size: int) -> None:
    assert load({"max_body": text}, {}).max_body == size


def test_sqlite_paths_relative_and_absolute() -> None:
    assert load({"store": "sqlite:///a/b.db"}, {}).sqlite_path == Path("a/b.db")
    assert load({"store": "sqlite:////a/b.db"}, {}).sqlite_path == Path("/a/b.db")
    assert load({"data": "d"}, {}).sqlite_path == Path("d/hestia.db")
    assert load({"store": "mongodb://h/x"}, {}).sqlite_path is None


def test_base_url_never_names_an_unspecified_address() -> None:
    assert load({"host": "0.0.0.0", "port": "99"}, {}).base_url == "http://127.0.0.1:99/fhir"
    assert load({"host": "::1"}, {}).base_url == "http://[::1]:8080/fhir"


def test_text_of_a_value_parses_to_it() -> None:
    assert [as_text(value) for value in (True, False, ("a", "b"), 5, Path("x"))] == ["on", "off", "a,b", "5", "x"]
