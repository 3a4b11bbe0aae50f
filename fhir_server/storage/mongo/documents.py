"""Documents of our own, modelled with mongoengine: everything in the database that is not a resource.

mongoengine is the model only: it names, types and checks the members. Reading and writing goes through the store's own
client, so that these documents take part in its sessions and transactions, and no connection is global.
"""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar

from mongoengine import Document, IntField, StringField
from mongoengine.errors import ValidationError

D = TypeVar("D", bound="Record")


class Record(Document):
    """A document of ours; `dump` checks it."""

    meta: ClassVar[dict[str, Any]] = {"abstract": True, "auto_create_index": False, "strict": False}

    def dump(self) -> dict[str, Any]:
        """The document as it is stored. Raises: ValueError when a member is missing or of another type."""
        try:
            self.validate()
        except ValidationError as error:
            raise ValueError(f"Not a sound {type(self).__name__}: {sorted(error.errors)}") from None
        return dict(self.to_mongo())

    @classmethod
    def load(cls: type[D], stored: dict[str, Any]) -> D:
        """The document that was stored."""
        return cls._from_son(stored)


class StoreRecord(Record):
    """The one document that says which database this is.

    `identity` is drawn when the database is made, and anew when it is restored: feed positions carry it.
    """

    meta: ClassVar[dict[str, Any]] = {"collection": "store"}
    name = StringField(primary_key=True, default="store")
    layout = IntField(required=True)
    identity = StringField(required=True, min_length=16)


class MetaRecord(Record):
    """A value of `Store.put_meta`; JSON as text, since a member's name may hold dots and dollars."""

    meta: ClassVar[dict[str, Any]] = {"collection": "meta"}
    key = StringField(primary_key=True)
    value = StringField(required=True)
    revision = IntField(required=True, min_value=1)


class Claim(Record):
    """A unique key. Its `_id` is the claim itself, so that it stays unique on a sharded cluster too."""

    meta: ClassVar[dict[str, Any]] = {"collection": "claims"}
    claim = StringField(primary_key=True)
    address = StringField(required=True)


class OpenWrite(Record):
    """A write transaction that may still commit; `opened` is the database's clock, in milliseconds."""

    meta: ClassVar[dict[str, Any]] = {"collection": "open_writes"}
    token = StringField(primary_key=True)
    opened = IntField(required=True)
