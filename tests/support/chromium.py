"""Debian's Chromium, which the tests of pages drive. They fail, not skip, where there is none."""

from __future__ import annotations

import os
import shutil


def executable() -> str:
    """The path of the browser. Raises RuntimeError when there is none: see DEVELOPERS.md."""
    found = os.environ.get("HESTIA_TEST_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if not found:
        raise RuntimeError("The tests of pages need Chromium (Debian: chromium), or HESTIA_TEST_CHROMIUM.")
    return found
