"""The master key: where it comes from, and what is refused."""

from __future__ import annotations

import base64
import stat
from pathlib import Path

import pytest

from hestia.masterkey import master_keys, parse_keys
from hestia.settings import SettingsError, load

KEY = bytes(range(32))
OTHER = bytes(range(32, 64))


def text_of(key: bytes) -> str:
    return base64.urlsafe_b64encode(key).decode("ascii")


@pytest.mark.parametrize(
    "text",
    [
        KEY.hex(),
        text_of(KEY),
        text_of(KEY).rstrip("="),
        base64.b64encode(KEY).decode(),
        f" {text_of(KEY)}\n",
        f"# a\n{KEY.hex()}",
    ],
)
def test_a_key_is_read_in_every_usual_writing(text: str) -> None:
    assert parse_keys(text, "X") == (KEY,)


def test_the_first_of_several_keys_seals() -> None:
    assert parse_keys(f"{text_of(OTHER)},{KEY.hex()}", "X") == (OTHER, KEY)


@pytest.mark.parametrize("text", ["", "short", "!" * 43, KEY.hex()[:-2], text_of(KEY + b"x"), "# only a comment"])
def test_what_is_no_key_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(SettingsError) as refused:
        parse_keys(text, "HESTIA_SECRET_KEY")
    assert "HESTIA_SECRET_KEY" in str(refused.value)
    assert not text or text not in str(refused.value)


def test_development_makes_a_key_once_that_only_its_owner_reads(tmp_path: Path) -> None:
    settings = load({"data": str(tmp_path / "var")}, {})
    first = master_keys(settings)
    assert len(first) == 1
    assert len(first[0]) == 32
    assert master_keys(settings) == first
    path = tmp_path / "var" / "secret.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [one.name for one in path.parent.iterdir()] == ["secret.key"]


def test_production_needs_a_configured_key(tmp_path: Path) -> None:
    settings = load({"data": str(tmp_path), "mode": "production"}, {})
    with pytest.raises(SettingsError, match="HESTIA_SECRET_KEY_FILE"):
        master_keys(settings)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "key").write_text(KEY.hex())
    in_file = load({"data": str(tmp_path), "mode": "production", "secret_key_file": str(tmp_path / "key")}, {})
    assert master_keys(in_file) == (KEY,)
    given = load({"mode": "production"}, {"HESTIA_SECRET_KEY": text_of(OTHER)})
    assert master_keys(given) == (OTHER,)


def test_a_command_that_makes_nothing_misses_the_key(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no master key"):
        master_keys(load({"data": str(tmp_path)}, {}), create=False)
