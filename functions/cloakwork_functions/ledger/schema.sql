CREATE TABLE IF NOT EXISTS keys (
    prefix  TEXT PRIMARY KEY,           -- shown, and written in logs and ledger
    digest  BLOB NOT NULL,              -- SHA-256 of the whole key, which has 190 random bits
    name    TEXT NOT NULL,
    created INTEGER NOT NULL,           -- Unix seconds, like every time here
    revoked INTEGER
) STRICT;

-- One row a call, written with its hold and never changed.
CREATE TABLE IF NOT EXISTS runs (
    id          TEXT PRIMARY KEY,
    account     TEXT NOT NULL,          -- the API key's prefix
    model       TEXT NOT NULL,          -- name@version
    mode        TEXT NOT NULL,
    records     INTEGER NOT NULL,
    idempotency TEXT,                   -- the client's name for the call
    body_mac    TEXT,                   -- HMAC of the request, to know a repeat from another call
    gateway     TEXT NOT NULL,          -- which process held it; if that died, the hold is released
    expires     INTEGER NOT NULL        -- an open hold older than this is released
) STRICT;
CREATE INDEX IF NOT EXISTS runs_idempotency ON runs (account, idempotency) WHERE idempotency IS NOT NULL;
CREATE INDEX IF NOT EXISTS runs_expires ON runs (expires);

-- Append-only double entry: each row moves one amount from an account to another.
CREATE TABLE IF NOT EXISTS entries (
    run    TEXT NOT NULL REFERENCES runs (id),
    kind   TEXT NOT NULL CHECK (kind IN ('hold', 'settle', 'release')),
    debit  TEXT NOT NULL,
    credit TEXT NOT NULL,
    amount INTEGER NOT NULL CHECK (amount >= 0),   -- nano-USD
    at     INTEGER NOT NULL,
    PRIMARY KEY (run, kind)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS entries_one_end ON entries (run) WHERE kind <> 'hold';

CREATE TABLE IF NOT EXISTS secrets (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
