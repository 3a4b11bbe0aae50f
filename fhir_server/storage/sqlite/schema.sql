-- Layout of the embedded store. docs/storage-sqlite.md explains it, docs/adr/0005-index-entries-in-sqlite.md
-- why.
-- Its number is SCHEMA in connection.py.

CREATE TABLE resource_type (
    number INTEGER PRIMARY KEY,
    name   TEXT NOT NULL UNIQUE
);

-- One row per resource ever created, and one per contained resource of a current one. A deleted resource keeps its row,
-- without a body: its number orders it, and its next version follows on this one.
CREATE TABLE resource (
    rid       INTEGER PRIMARY KEY,  -- order of creation
    address   TEXT NOT NULL,        -- Type/id, Type/id#local
    type      INTEGER NOT NULL,
    state     INTEGER NOT NULL,     -- 0 deleted, 1 current, 2 contained in another
    version   INTEGER,
    updated   INTEGER,              -- microseconds since 1970
    method    INTEGER,              -- index into METHODS
    registry  INTEGER,
    container INTEGER,              -- rid of the resource that this one is contained in
    body      BLOB                  -- gzip member; last, so that narrow reads never touch its overflow pages
);
CREATE UNIQUE INDEX resource_address ON resource (address);
CREATE INDEX resource_kind ON resource (type, state);
CREATE INDEX resource_updated ON resource (type, updated);
CREATE INDEX resource_registry ON resource (registry) WHERE state = 1;
CREATE INDEX resource_container ON resource (container) WHERE container IS NOT NULL;

-- Superseded versions. `until` is the `updated` of the successor.
CREATE TABLE history (
    rid      INTEGER NOT NULL,
    version  INTEGER NOT NULL,
    type     INTEGER NOT NULL,
    updated  INTEGER NOT NULL,
    until    INTEGER NOT NULL,
    method   INTEGER NOT NULL,
    registry INTEGER NOT NULL,
    body     BLOB
);
CREATE UNIQUE INDEX history_version ON history (rid, version);
CREATE INDEX history_updated ON history (type, updated);

-- Dictionary of index keys. tid = param << 31 | serial, so one param is one range of tids in every index below.
-- Units of range entries are terms of param 0. Rows are never changed or removed: caches of them stay true.
CREATE TABLE term (
    tid   INTEGER PRIMARY KEY,
    param INTEGER NOT NULL,
    key   TEXT NOT NULL
);
CREATE UNIQUE INDEX term_key ON term (param, key);

-- The type whose documents a param belongs to (ast.py: a param is a number of one type). Rows are never changed.
CREATE TABLE param_type (
    param INTEGER PRIMARY KEY,
    type  INTEGER NOT NULL
);

-- Key entries: by term in order of creation, and by resource.
CREATE TABLE posting (
    tid INTEGER NOT NULL,
    rid INTEGER NOT NULL,
    PRIMARY KEY (tid, rid)
) WITHOUT ROWID;
CREATE INDEX posting_rid ON posting (rid, tid);

-- Range entries: by resource, by low and by high. `n` tells the entries of one (rid, tid) apart.
CREATE TABLE span (
    rid  INTEGER NOT NULL,
    tid  INTEGER NOT NULL,
    n    INTEGER NOT NULL,
    low  NOT NULL,
    high NOT NULL,
    unit INTEGER NOT NULL,
    PRIMARY KEY (rid, tid, n)
) WITHOUT ROWID;
CREATE INDEX span_low ON span (tid, low, rid, high, unit);
CREATE INDEX span_high ON span (tid, high, rid);

-- Unique keys of current resources.
CREATE TABLE claim (
    key TEXT PRIMARY KEY,
    rid INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX claim_rid ON claim (rid);

-- The change feed in commit order. `clock` is the latest `updated` ever committed where that is not `updated` itself.
CREATE TABLE feed (
    seq     INTEGER PRIMARY KEY,
    rid     INTEGER NOT NULL,
    version INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    method  INTEGER NOT NULL,
    clock   INTEGER
);

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;
