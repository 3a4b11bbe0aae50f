"""Findings about the integrity of a database file, for `hestia check`."""

from __future__ import annotations

from collections.abc import Iterator

import apsw

from fhir_server.storage.sqlite.connection import OLDEST_LIBRARY, library_version

QUERIES = (
    (
        "SELECT r.address FROM history h JOIN resource r ON r.rid = h.rid GROUP BY h.rid "
        "HAVING max(h.version) <> r.version - 1 OR count(*) <> max(h.version) - min(h.version) + 1",
        "{0}: its versions have a gap, or the current one is not the successor of the newest superseded one.",
    ),
    (
        "SELECT r.address FROM resource r WHERE r.state < 2 AND r.version > 1 AND NOT EXISTS (SELECT 1 FROM "
        "history WHERE rid = r.rid)",
        "{0}: the versions before the current one are missing.",
    ),
    (
        "SELECT r.address FROM history h JOIN resource r ON r.rid = h.rid "
        "LEFT JOIN history s ON s.rid = h.rid AND s.version = h.version + 1 "
        "WHERE h.until <> ifnull(s.updated, r.updated)",
        "{0}: a superseded version does not end where its successor begins.",
    ),
    (
        "SELECT h.rid FROM history h LEFT JOIN resource r ON r.rid = h.rid WHERE r.rid IS NULL",
        "A superseded version belongs to no resource.",
    ),
    ("SELECT address FROM resource WHERE state = 1 AND body IS NULL", "{0}: is current but has no body."),
    ("SELECT address FROM resource WHERE state = 0 AND body IS NOT NULL", "{0}: is deleted but has a body."),
    (
        "SELECT r.address FROM resource r LEFT JOIN resource c ON c.rid = r.container AND c.state = 1 "
        "WHERE r.state = 2 AND c.rid IS NULL",
        "{0}: its container is absent or deleted.",
    ),
    (
        "SELECT DISTINCT p.rid FROM posting p LEFT JOIN resource r ON r.rid = p.rid AND r.state > 0 WHERE r.rid "
        "IS NULL",
        "Key entries belong to no current resource.",
    ),
    (
        "SELECT DISTINCT s.rid FROM span s LEFT JOIN resource r ON r.rid = s.rid AND r.state > 0 WHERE r.rid IS NULL",
        "Range entries belong to no current resource.",
    ),
    (
        "SELECT 1 FROM posting p LEFT JOIN term t ON t.tid = p.tid WHERE t.tid IS NULL "
        "UNION ALL SELECT 1 FROM span s LEFT JOIN term t ON t.tid = s.tid WHERE t.tid IS NULL "
        "UNION ALL SELECT 1 FROM span s LEFT JOIN term t ON t.tid = s.unit WHERE t.tid IS NULL",
        "An index entry has a key that the dictionary lacks.",
    ),
    ("SELECT 1 FROM term WHERE tid >> 31 <> param", "A key in the dictionary is filed under the wrong parameter."),
    (
        "SELECT r.address FROM posting p CROSS JOIN param_type y ON y.param = p.tid >> 31 CROSS JOIN resource r "
        "ON r.rid = p.rid "
        "WHERE r.type <> y.type",
        "{0}: has an index entry of another type's parameter.",
    ),
    (
        "SELECT c.rid FROM claim c LEFT JOIN resource r ON r.rid = c.rid AND r.state = 1 WHERE r.rid IS NULL",
        "A unique key is held by no current resource.",
    ),
    (
        "SELECT r.address FROM resource r LEFT JOIN resource_type t ON t.number = r.type "
        "WHERE t.number IS NULL OR substr(r.address, 1, length(t.name) + 1) <> t.name || '/' AND r.state < 2",
        "{0}: its address and its type disagree.",
    ),
    (
        "SELECT 1 FROM (SELECT seq, lag(seq) OVER (ORDER BY seq) AS previous FROM feed) WHERE seq <> previous + 1",
        "The change feed has a gap.",
    ),
)
REPORTED = 20
"""Findings of one sort that are listed before the rest is only counted."""


def findings(connection: apsw.Connection) -> Iterator[str]:
    """Sentences; none when the database is sound."""
    if library_version() < OLDEST_LIBRARY:
        yield "The SQLite library is older than 3.51.3 and can corrupt a WAL database."
    damaged = False
    for (text,) in connection.execute("PRAGMA integrity_check(20)"):
        if text != "ok":
            damaged = True
            yield f"SQLite's integrity check: {text}."
    if damaged:
        return  # joins over damaged indexes would only add noise
    for query, sentence in QUERIES:
        count = 0
        for row in connection.execute(query):
            count += 1
            if count <= REPORTED:
                yield sentence.format(*row)
        if count > REPORTED:
            yield f"... and {count - REPORTED} more of: {sentence.format('...')}"
