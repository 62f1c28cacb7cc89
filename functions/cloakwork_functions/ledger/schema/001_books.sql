-- Times are Unix seconds, amounts nano-USD, unless a column says otherwise.

CREATE TABLE accounts (
    id        TEXT PRIMARY KEY,
    name      TEXT NOT NULL,
    created   INTEGER NOT NULL,
    -- What the entries say, kept so that a hold need not add them up.
    available INTEGER NOT NULL DEFAULT 0 CHECK (available >= 0),
    held      INTEGER NOT NULL DEFAULT 0 CHECK (held >= 0),
    -- The end of the chain of receipts: how many there are, and the digest of the last.
    receipts  INTEGER NOT NULL DEFAULT 0,
    head      TEXT NOT NULL
) STRICT;

CREATE TABLE projects (
    id      TEXT PRIMARY KEY,
    account TEXT NOT NULL REFERENCES accounts (id),
    name    TEXT NOT NULL,
    created INTEGER NOT NULL,
    UNIQUE (account, name)
) STRICT;

CREATE TABLE keys (
    prefix    TEXT PRIMARY KEY,          -- shown, and written in logs and ledger
    family    TEXT NOT NULL,             -- prefix of the first key of a line of rotations
    digest    TEXT NOT NULL UNIQUE,      -- SHA-256 of the whole key, which has 190 random bits
    project   TEXT NOT NULL REFERENCES projects (id),
    name      TEXT NOT NULL,
    scope     TEXT NOT NULL,             -- JSON: models, modes, manage, floor, addresses
    created   INTEGER NOT NULL,
    expires   INTEGER,
    revoked   INTEGER,
    last_used INTEGER                    -- to the minute
) STRICT;

-- What a key may do at once and in a minute, on a model or on all: '*' stands for every key or model. A key
-- and its successors count together, so that a rotation gives nobody twice as much.
CREATE TABLE limits (
    key         TEXT NOT NULL,           -- family
    model       TEXT NOT NULL,
    per_minute  INTEGER,
    concurrency INTEGER,
    PRIMARY KEY (key, model)
) STRICT;

-- Where a key stands with a limit: the time, in microseconds, at which its bucket is full again.
CREATE TABLE rates (
    key     TEXT NOT NULL,               -- family
    model   TEXT NOT NULL,               -- as in the limit
    full_at INTEGER NOT NULL,
    PRIMARY KEY (key, model)
) STRICT;

-- A hard cap on what a key or a project spends in a day, a month or in all; open holds count as spent.
CREATE TABLE budgets (
    subject  TEXT PRIMARY KEY,           -- key:FAMILY or project:ID
    cap      INTEGER NOT NULL CHECK (cap >= 0),
    period   TEXT NOT NULL CHECK (period IN ('day', 'month', 'total')),
    alert    INTEGER NOT NULL,           -- percent of the cap from which on an alert is raised
    term     INTEGER NOT NULL DEFAULT 0, -- which day or month `spent` is of; it never goes back
    spent    INTEGER NOT NULL DEFAULT 0 CHECK (spent >= 0)
) STRICT;

CREATE TABLE alerts (
    subject TEXT NOT NULL,
    term    INTEGER NOT NULL,
    cap     INTEGER NOT NULL,
    spent   INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    PRIMARY KEY (subject, term, cap)
) STRICT;

-- Append-only: a price is never changed, a later version takes its place.
CREATE TABLE prices (
    version INTEGER PRIMARY KEY,
    model   TEXT NOT NULL,
    mode    TEXT NOT NULL,
    rates   TEXT NOT NULL,               -- JSON: pico-USD by unit
    at      INTEGER NOT NULL
) STRICT;
CREATE INDEX prices_of ON prices (model, mode, version);

-- One row a call, written with its hold and never changed.
CREATE TABLE runs (
    id           TEXT PRIMARY KEY,
    account      TEXT NOT NULL,
    project      TEXT NOT NULL,
    key          TEXT NOT NULL,          -- prefix
    model        TEXT NOT NULL,          -- name@version
    model_digest TEXT NOT NULL,
    mode         TEXT NOT NULL,
    price        INTEGER NOT NULL,       -- version
    at           INTEGER NOT NULL,
    idempotency  TEXT,                   -- the client's name for the call
    request_mac  TEXT                    -- HMAC of the request, to know a repeat from another call
) STRICT;
CREATE INDEX runs_idempotency ON runs (account, idempotency) WHERE idempotency IS NOT NULL;
CREATE INDEX runs_usage ON runs (account, at);

-- Open holds: written with a run, gone with its end.
CREATE TABLE holds (
    run     TEXT PRIMARY KEY REFERENCES runs (id),
    account TEXT NOT NULL,
    project TEXT NOT NULL,
    key     TEXT NOT NULL,               -- family
    model   TEXT NOT NULL,               -- name, as limits have it
    amount  INTEGER NOT NULL,
    gateway TEXT NOT NULL,               -- which process held it; if that died, the hold is released
    at      INTEGER NOT NULL,
    expires INTEGER NOT NULL
) STRICT;
CREATE INDEX holds_key ON holds (key);
CREATE INDEX holds_expires ON holds (expires);
CREATE INDEX holds_gateway ON holds (gateway);

-- How a run ended: one row, so that it ends once.
CREATE TABLE ends (
    run        TEXT PRIMARY KEY REFERENCES runs (id),
    outcome    TEXT NOT NULL,
    amount     INTEGER NOT NULL,
    quantities TEXT NOT NULL,            -- JSON: how much of each unit
    at         INTEGER NOT NULL
) STRICT;

-- Append-only double entry: each row moves one amount from an account to another.
CREATE TABLE entries (
    id     TEXT NOT NULL,                -- the run, or what names a credit
    kind   TEXT NOT NULL,
    debit  TEXT NOT NULL,
    credit TEXT NOT NULL,
    amount INTEGER NOT NULL CHECK (amount >= 0),
    at     INTEGER NOT NULL,
    PRIMARY KEY (id, kind)
) STRICT;
CREATE INDEX entries_credits ON entries (credit, at) WHERE kind = 'credit';

-- Answers to calls that name themselves, encrypted, for as long as a repeat is given the same answer.
CREATE TABLE answers (
    run     TEXT PRIMARY KEY REFERENCES runs (id),
    sealed  TEXT NOT NULL,
    expires INTEGER NOT NULL
) STRICT;
CREATE INDEX answers_expires ON answers (expires);

CREATE TABLE receipts (
    account  TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    run      TEXT NOT NULL UNIQUE,
    receipt  TEXT NOT NULL,              -- as it was given to the client
    PRIMARY KEY (account, sequence)
) STRICT;

CREATE TABLE signing_keys (
    id      TEXT PRIMARY KEY,            -- RFC 7638 thumbprint
    public  TEXT NOT NULL,               -- base64url
    private TEXT NOT NULL,               -- encrypted under the service's own secret
    created INTEGER NOT NULL,
    retired INTEGER
) STRICT;
-- One signs at a time, whichever of two gateways that start at once made it.
CREATE UNIQUE INDEX signing_keys_current ON signing_keys ((retired IS NULL)) WHERE retired IS NULL;

-- Postgres only: gateways that are alive hold an advisory lock (SQLite's hold a file's).
CREATE TABLE gateways (
    name TEXT PRIMARY KEY
) STRICT;

-- What happened is not changed: a correction is a row of its own.
CREATE TRIGGER runs_update BEFORE UPDATE ON runs BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER runs_delete BEFORE DELETE ON runs BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER ends_update BEFORE UPDATE ON ends BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER ends_delete BEFORE DELETE ON ends BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER entries_update BEFORE UPDATE ON entries BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER entries_delete BEFORE DELETE ON entries BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER receipts_update BEFORE UPDATE ON receipts BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER receipts_delete BEFORE DELETE ON receipts BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER prices_update BEFORE UPDATE ON prices BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER prices_delete BEFORE DELETE ON prices BEGIN SELECT RAISE(ABORT, 'append-only'); END;
