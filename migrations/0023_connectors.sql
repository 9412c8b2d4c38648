-- Connectors: rows of other databases that become users or events.

-- A row: a connector, its position in its source, and what its last polls found.
CREATE TABLE connectors (
    id                uuid PRIMARY KEY,
    name              text NOT NULL UNIQUE CHECK (name ~ '^[a-z0-9][a-z0-9._-]{0,63}$'),
    definition        json NOT NULL,
    connection        bytea,                           -- the source's address, sealed; NULL: Herald's own database
    author            text NOT NULL,
    state             text NOT NULL CHECK (state IN ('running', 'paused', 'stopped')),
    detail            text NOT NULL,                   -- why it was stopped
    revision          integer NOT NULL DEFAULT 1,      -- of the definition
    epoch             bigint NOT NULL DEFAULT 0,       -- of the last lease, or of the last change by a person
    lease_until       timestamptz,
    next_at           timestamptz NOT NULL,
    position          jsonb,                           -- in the reader's terms; NULL: not started
    known_rows        bigint,                          -- rows of the source at the last count
    counted_at        timestamptz,
    rows_read         bigint NOT NULL DEFAULT 0,       -- the sum of the following
    rows_accepted     bigint NOT NULL DEFAULT 0,
    rows_unchanged    bigint NOT NULL DEFAULT 0,
    rows_repeated     bigint NOT NULL DEFAULT 0,       -- read again and recognized
    rows_too_old      bigint NOT NULL DEFAULT 0,
    rows_deleted      bigint NOT NULL DEFAULT 0,       -- left alone: marked as deleted, or of an erased person
    rows_set_aside    bigint NOT NULL DEFAULT 0,
    rows_superseded   bigint NOT NULL DEFAULT 0,       -- replaced by a newer row of the same key
    observed          jsonb NOT NULL DEFAULT '{}',      -- what the last poll saw: lag, what holds it back
    polled_at         timestamptz NOT NULL,            -- the last successful poll, or when it was started
    last_error        text NOT NULL DEFAULT '',
    last_error_at     timestamptz,
    created_at        timestamptz NOT NULL,
    updated_at        timestamptz NOT NULL
) WITH (fillfactor = 70);

-- A row: a row of a source that could not become a user or an event. Its content stays in the source.
CREATE TABLE connector_set_aside (
    connector_id  uuid NOT NULL REFERENCES connectors (id) ON DELETE CASCADE,
    row_id        text NOT NULL,
    key           text NOT NULL,                       -- whose row it is: a newer row of this key replaces it
    field         text NOT NULL,                       -- the column that is wrong, if it is one
    reason        text NOT NULL,
    attempts      integer NOT NULL,
    first_at      timestamptz NOT NULL,
    retry_at      timestamptz NOT NULL,
    PRIMARY KEY (connector_id, row_id)
);
CREATE INDEX connector_set_aside_key ON connector_set_aside (connector_id, key);
CREATE INDEX connector_set_aside_retry ON connector_set_aside (connector_id, retry_at);

-- A row: a row of the lookback window that was read, so that it is recognized. Keyed hashes, never values.
CREATE TABLE connector_seen (
    connector_id  uuid NOT NULL REFERENCES connectors (id) ON DELETE CASCADE,
    key_hash      text NOT NULL,
    row_hash      text NOT NULL,
    changed_at    timestamptz NOT NULL,                -- its watermark
    PRIMARY KEY (connector_id, key_hash)
);
CREATE INDEX connector_seen_age ON connector_seen (connector_id, changed_at);

-- A row: a row of an outbox that is done with and has yet to be deleted at the source.
CREATE TABLE connector_consumed (
    connector_id  uuid NOT NULL REFERENCES connectors (id) ON DELETE CASCADE,
    row_id        text NOT NULL,
    PRIMARY KEY (connector_id, row_id)
);
