"""The records as mongoengine documents: a collection per kind, with the indexes that its fields declare.

A document holds the JSON text of the record, which knows no limits of BSON (keys with dots, large integers in a JWKS
or launch context that a client sent), beside it the fields that are unique or searched for, the time it expires as a
date for the TTL index, and a revision that every change counts up.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

from mongoengine import DateTimeField, Document, IntField, ListField, StringField

from smart_auth.records import KINDS, Record
from smart_auth.store.rows import columns, table

ALIAS: Final = "hestia-accounts"
"""Alias that the classes name; every store reads and writes through collections of a connection of its own."""

TTL: Final = {"fields": ["expires_at"], "expireAfterSeconds": 0}


class RecordDocument(Document):
    """What every kind has."""

    meta: ClassVar[dict[str, Any]] = {"abstract": True}

    id = StringField(primary_key=True)
    body = StringField(required=True)
    created_at = IntField(required=True)
    expires_at = DateTimeField()
    revision = IntField(required=True, default=1)


class HitDocument(Document):
    """A counter of one key in one window."""

    meta: ClassVar[dict[str, Any]] = {
        "collection": "auth_hit",
        "db_alias": ALIAS,
        "auto_create_index": False,
        "indexes": [TTL],
    }

    id = StringField(primary_key=True)
    count = IntField()
    expires_at = DateTimeField()


class LayoutDocument(Document):
    """Which fields the documents of a kind have beside their text, as they were written."""

    meta: ClassVar[dict[str, Any]] = {"collection": "auth_layout", "db_alias": ALIAS, "auto_create_index": False}

    id = StringField(primary_key=True)
    fields_beside = ListField(StringField())


def _document(kind: type[Record]) -> type[RecordDocument]:
    """The document class of a kind. A unique field is indexed where it is present: a record without it has none."""
    indexes: list[dict[str, Any]] = [
        {"fields": [name], "unique": True, "sparse": True} if name in kind.UNIQUE else {"fields": [name, "created_at"]}
        for name in columns(kind)
    ]
    metaclass: Any = type(RecordDocument)
    made: type[RecordDocument] = metaclass(
        f"{kind.__name__}Document",
        (RecordDocument,),
        {
            **{name: StringField() for name in columns(kind)},
            "__doc__": kind.__doc__,
            "meta": {
                "collection": table(kind),
                "db_alias": ALIAS,
                "auto_create_index": False,
                "indexes": [TTL, *indexes],
            },
        },
    )
    return made


DOCUMENTS: Final[dict[type[Record], type[RecordDocument]]] = {kind: _document(kind) for kind in KINDS}
