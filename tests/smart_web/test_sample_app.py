"""The sample app can be copied as it is: no code of others, every text in both languages, scopes that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from smart_auth.scopes import invalid

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "examples" / "sample-app"
PAGES = ("index.html", "launch.html")


def text(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", PAGES)
def test_pages_load_only_what_is_in_the_folder(name: str) -> None:
    page = text(name)
    assert not re.search(r"https?://|\sstyle=|\son[a-z]+=|<style", page)
    for source in re.findall(r'(?:src|href)="([^"]+)"', page):
        assert (FOLDER / source).is_file()


def test_script_asks_no_other_host() -> None:
    assert not re.search(r"[\"'`]https?://|import |innerHTML|eval\(", text("app.js"))


def test_every_text_is_there_in_both_languages() -> None:
    script = text("app.js")
    table = script[script.index("const TEXTS = {") : script.index("\n};", script.index("const TEXTS = {"))]
    known = dict.fromkeys(re.findall(r'^  "?([\w-]+)"?: \[', table, re.MULTILINE))
    used = {key for name in PAGES for key in re.findall(r'data-text="(\w+)"', text(name))}
    used |= set(re.findall(r'new Problem\("(\w+)"\)', script))
    assert used <= set(known)
    chinese = re.findall(r"[\u4e00-\u9fff]+", table)
    assert len(chinese) >= len(known) - 2


def test_script_finds_its_elements() -> None:
    ids = set(re.findall(r'element\("(\w+)"\)', text("app.js")))
    assert ids <= set(re.findall(r'\bid="(\w+)"', text("index.html")))


def test_scopes_are_scopes() -> None:
    for scope in re.findall(r'Scope: "([^"]+)"', text("app.js")):
        assert invalid(scope) == []
