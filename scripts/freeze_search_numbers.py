"""Give every (type, search parameter) of R4 its frozen number: ``fhir_server/search/definitions/numbers.json``.

    python scripts/freeze_search_numbers.py

Index entries in databases carry these numbers, so one that is in the file never changes: new parameters get new
numbers. Every type has one more, of the entries that say at which Binaries its resources point.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fhir_server import definitions
from fhir_server.search.registry import CONTENT, NUMBERS_FILE, indexed_codes


def main() -> int:
    frozen: dict[str, dict[str, int]] = json.loads(NUMBERS_FILE.read_text()) if NUMBERS_FILE.exists() else {}
    following = 1 + max((n for codes in frozen.values() for n in codes.values()), default=0)
    added = 0
    for name in definitions.resource_types():
        known = frozen.setdefault(name, {})
        for code in (*indexed_codes(name), CONTENT):
            if code not in known:
                known[code] = following
                following, added = following + 1, added + 1
    lines = [f"{json.dumps(name)}:{json.dumps(codes, separators=(',', ':'))}" for name, codes in sorted(frozen.items())]
    NUMBERS_FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    print(f"{added} numbers added, {following - 1} in all")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
