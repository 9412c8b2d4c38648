-- Erasures: people who asked that nothing about them is kept, recognised by keyed hashes of their identifiers.

-- The key of these hashes, sealed. It is not the secret key's own, so that rotating that one does not make them useless.
CREATE TABLE erasure_key (
    id      uuid PRIMARY KEY,
    sealed  bytea NOT NULL
);
CREATE UNIQUE INDEX erasure_key_one ON erasure_key ((true));

CREATE TABLE erasures (
    id            uuid PRIMARY KEY,
    state         text NOT NULL CHECK (state IN ('open', 'done', 'lifted')),
    requested_by  text NOT NULL,
    requested_at  timestamptz NOT NULL,
    identifiers   bytea,                            -- sealed; what is still looked for
    is_recorded   boolean NOT NULL DEFAULT false,   -- whether the record outside the database has it
    progress      jsonb NOT NULL DEFAULT '{}',      -- what was erased where; no personal data
    attempts      integer NOT NULL DEFAULT 0,
    due_at        timestamptz NOT NULL,             -- of a claimed row: when the claim expires
    finished_at   timestamptz,
    CHECK ((identifiers IS NULL) = (state <> 'open')),
    CHECK ((finished_at IS NULL) = (state = 'open'))
);
CREATE INDEX erasures_due ON erasures (due_at) WHERE state = 'open';

-- A row: an identifier whose person must not come back.
CREATE TABLE erased_identifiers (
    digest      bytea PRIMARY KEY CHECK (octet_length(digest) = 32),
    erasure_id  uuid NOT NULL REFERENCES erasures (id)
);
CREATE INDEX erased_identifiers_erasure ON erased_identifiers (erasure_id);
