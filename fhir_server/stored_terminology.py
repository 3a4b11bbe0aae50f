"""The code systems, value sets and concept maps that are stored on the server, as the terminology asks for them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from fhir_server.search import ast
from fhir_server.writing import parse_body

if TYPE_CHECKING:
    from fhir_server.context import Server

_LITERAL: Final = re.compile(r"([A-Za-z]+)/([A-Za-z0-9\-.]{1,64})\Z")
_MOST: Final = 100


class StoredTerminology:
    """``terminology.protocol.Resources`` over the store; `server` is set by the composition."""

    server: Server | None = None

    def generation(self) -> int:
        """Changes whenever such a resource is written, by any worker; as fresh as the server's last look at its
        records.
        """
        return self.server.terminology_generation if self.server is not None else 0

    def find(self, resource_type: str, url: str, version: str | None) -> Mapping[str, Any] | None:
        """The stored resource of a canonical or literal reference, parsed; the newest of several versions."""
        server = self.server
        if server is None:
            return None
        text = url
        for base in (server.settings.base_url, *server.settings.base_aliases):
            text = text.removeprefix(base + "/")
        literal = _LITERAL.match(text)
        if literal is not None and literal[1] == resource_type:
            stored = server.store.read(resource_type, literal[2])
            if stored is not None and stored.body is not None:
                return parse_body(stored.body)
        param = server.registry.param(resource_type, "url")
        if param is None:
            return None
        test = ast.Compare("key", "=", url)
        search = ast.Search(ast.Select((resource_type,), ast.Exists(param.numbers, "key", test)), count=_MOST)
        found = [parse_body(one.body) for one in server.store.search(search).matches if one.body is not None]
        if version is not None:
            found = [one for one in found if one.get("version") == version]
        return max(found, key=_rank, default=None)


def _rank(resource: Mapping[str, Any]) -> tuple[bool, list[tuple[int, int | str]], str]:
    """Active before retired, then by version (numbers as numbers), then by date."""
    version = [
        (1, int(part)) if part.isdigit() else (0, part) for part in re.split(r"[.\-]", str(resource.get("version", "")))
    ]
    return resource.get("status") == "active", version, str(resource.get("date", ""))
