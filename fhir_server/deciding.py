"""Whether a tree selects one resource that is not stored, or not stored like this: the resource in memory, its
chains in a store.

search/match.py interprets what is about the resource itself; a chain or reverse chain becomes one question to the
store or to the transaction. Used for permissions on single versions, and for criteria that a transaction's own
resources may meet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fhir_server.search import ast
from fhir_server.search.documents import Document
from fhir_server.search.match import MemoryCorpus, holds, matches
from fhir_server.storage.protocol import Reader


def selects(select: ast.Select, documents: Sequence[Document], reader: Reader, updated: int = 0) -> bool:
    """Whether `select` selects the resource with these documents (its own first, then those contained in it).

    `updated`: its meta.lastUpdated, microseconds. Raises TooCostly as the store does.
    """
    document = documents[0]
    if select.contained == "only" or (select.types is not None and document.type not in select.types):
        return False
    corpus = MemoryCorpus()
    corpus.put(documents, updated)
    return _holds(select.where, document, corpus, reader)


def _holds(node: ast.Node, document: Document, corpus: MemoryCorpus, reader: Reader) -> bool:
    match node:
        case ast.And(parts):
            return all(_holds(part, document, corpus, reader) for part in parts)
        case ast.Or(parts):
            return any(_holds(part, document, corpus, reader) for part in parts)
        case ast.Not(part):
            return not _holds(part, document, corpus, reader)
        case ast.Linked(params, target):
            addresses = tuple(sorted({key for number, key in document.keys if number in params}))
            inner = [one for address in addresses if (one := corpus.get(address)) is not None and "#" in address]
            if any(matches(target, one, corpus) for one in inner):
                return True
            if not addresses or target.contained == "only":
                return False
            narrowed = ast.And((ast.Field("address", "in", addresses), target.where))
            return _finds(replace(target, where=narrowed, contained="no"), reader)
        case ast.LinkedFrom(params, source):
            pointing = ast.Exists(params, "key", ast.Compare("key", "=", document.address))
            return _finds(replace(source, where=ast.And((pointing, source.where))), reader)
        case _:
            return holds(node, document, corpus)


def _finds(select: ast.Select, reader: Reader) -> bool:
    return bool(reader.search(ast.Search(select, count=1)).matches)
