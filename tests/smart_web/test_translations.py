"""The Chinese catalog has everything, and what is served is what is written there."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def translations() -> ModuleType:
    spec = importlib.util.spec_from_file_location("translations", ROOT / "scripts" / "translations.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_text_is_in_the_catalog_and_nothing_else(translations: ModuleType) -> None:
    wanted = {one.id for one in translations.extracted() if one.id}
    assert {one.id for one in translations.read() if one.id} == wanted
    assert len(wanted) > 300


def test_every_text_has_a_translation(translations: ModuleType) -> None:
    assert translations.missing(translations.read()) == []


def test_translations_fill_in_the_same_values(translations: ModuleType) -> None:
    for one in translations.read():
        if not one.id:
            continue
        texts = (one.id, one.string) if isinstance(one.id, str) else (one.id[1], one.string[0])
        named = [sorted(re.findall(r"%\((\w+)\)s", text)) for text in texts]
        assert named[0] == named[1], one.id


def test_compiled_catalog_is_that_of_the_text(translations: ModuleType) -> None:
    compiled = translations.CATALOG.with_suffix(".mo").read_bytes()
    assert compiled == translations.compiled(translations.read())
