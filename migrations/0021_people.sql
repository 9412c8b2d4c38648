-- People: the changes that OneSignal has not confirmed yet, and what is known to be there.

-- A person has one id per label.
DROP INDEX user_aliases_user;
CREATE UNIQUE INDEX user_aliases_user ON user_aliases (user_id, label);

-- Orders the changes of one person: a later change has a larger version.
CREATE SEQUENCE user_write_versions;

-- A row: the merged changes of one person that an app has not confirmed. It is deleted once nothing is left to write.
CREATE TABLE user_writes (
    app_id        uuid NOT NULL,
    user_id       uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    changes       jsonb NOT NULL,                   -- part -> its newest value
    creates       boolean NOT NULL,                 -- whether a user that OneSignal does not know may be created
    origin        smallint NOT NULL CHECK (origin BETWEEN 0 AND 3), -- event, API, connector, import
    version       bigint NOT NULL,
    due_at        timestamptz NOT NULL,             -- of a claimed row: when the claim expires
    claim_epoch   integer NOT NULL DEFAULT 0,
    is_in_doubt   boolean NOT NULL DEFAULT false,   -- a call was begun whose result is not recorded
    attempts      smallint NOT NULL DEFAULT 0,
    max_new_tags  smallint CHECK (max_new_tags > 0),
    created_at    timestamptz NOT NULL,
    PRIMARY KEY (user_id, app_id)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
CREATE INDEX user_writes_due ON user_writes (app_id, origin, due_at);

-- A row: what is known of one person in an app at OneSignal. `confirmed` has keyed hashes of values, never values.
CREATE TABLE user_syncs (
    app_id        uuid NOT NULL,
    user_id       uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    confirmed     jsonb NOT NULL DEFAULT '{}',      -- part -> hash of the value that OneSignal confirmed
    refused       jsonb NOT NULL DEFAULT '{}',      -- part -> {code, detail, at} of its last refusal
    onesignal_id  uuid,
    exists_since  timestamptz,                      -- when OneSignal first confirmed a write
    next_at       timestamptz NOT NULL,             -- not before: OneSignal takes one write a second
    answer        text NOT NULL,                    -- the last answer's code
    detail        text NOT NULL,
    answered_at   timestamptz NOT NULL,
    PRIMARY KEY (user_id, app_id)
) WITH (fillfactor = 80);

-- What became of a rule's action on a person. A tag is done once the user's write of this version is confirmed.
ALTER TABLE planned_actions
    ADD COLUMN state        text NOT NULL DEFAULT 'planned' CHECK (state IN ('planned', 'done', 'refused', 'expired')),
    ADD COLUMN detail       text NOT NULL DEFAULT '',
    ADD COLUMN finished_at  timestamptz;
CREATE INDEX planned_actions_event ON planned_actions (event_id);

-- A row: a custom event that OneSignal has not accepted yet. Its id is its idempotency key, and the planned action's.
CREATE TABLE custom_events (
    id                uuid PRIMARY KEY,
    app_id            uuid NOT NULL,
    name              text NOT NULL,
    recipient_label   text NOT NULL,
    recipient_id      text NOT NULL,
    occurred_at       timestamptz NOT NULL,
    properties        json NOT NULL,
    due_at            timestamptz NOT NULL,         -- of a claimed row: when the claim expires
    claim_epoch       integer NOT NULL DEFAULT 0,
    attempts          smallint NOT NULL DEFAULT 0,
    first_attempt_at  timestamptz
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
CREATE INDEX custom_events_due ON custom_events (app_id, due_at);

-- A row: a rule's tag action that waits for a write of its person.
CREATE TABLE tag_actions (
    action_id  uuid PRIMARY KEY,
    app_id     uuid NOT NULL,
    user_id    uuid NOT NULL,
    version    bigint NOT NULL,
    tags       text[] NOT NULL                      -- their names: the action is refused if one of them is
);
CREATE INDEX tag_actions_user ON tag_actions (app_id, user_id, version);

-- A row: a CSV file of users. Its rows are staged and checked as a whole before the first of them is accepted.
CREATE TABLE imports (
    id              uuid PRIMARY KEY,
    app_id          uuid NOT NULL,
    name            text NOT NULL,
    author          text NOT NULL,
    state           text NOT NULL CHECK (state IN ('uploading', 'checking', 'ready', 'stopped', 'running', 'done', 'cancelled')),
    settings        json NOT NULL,                  -- mapping and limits, as they were requested
    format          json,                           -- encoding, delimiter and columns, once they are known
    received_bytes  bigint NOT NULL DEFAULT 0,
    tail            bytea NOT NULL DEFAULT '',      -- received bytes that are not a whole record yet
    next_line       bigint NOT NULL DEFAULT 1,      -- the physical line that `tail` begins with
    records         bigint NOT NULL DEFAULT 0,
    rejected        bigint NOT NULL DEFAULT 0,
    position        bigint NOT NULL DEFAULT 0,      -- the line up to which rows are checked, or accepted
    new_users       bigint NOT NULL DEFAULT 0,
    changed         bigint NOT NULL DEFAULT 0,      -- people with something to write, new ones included
    unchanged       bigint NOT NULL DEFAULT 0,
    conflicts       bigint NOT NULL DEFAULT 0,      -- rows whose aliases belong to different people
    removed_tags    bigint NOT NULL DEFAULT 0,
    accepted        bigint NOT NULL DEFAULT 0,      -- people in the outbox, or through it
    sent            bigint NOT NULL DEFAULT 0,
    refused         bigint NOT NULL DEFAULT 0,
    detail          text NOT NULL DEFAULT '',       -- why it was stopped
    created_at      timestamptz NOT NULL,
    started_at      timestamptz,
    finished_at     timestamptz
);
CREATE INDEX imports_active ON imports (created_at) WHERE state IN ('checking', 'running');
CREATE INDEX imports_created ON imports (created_at);

-- A row: one record of a file, with what is wrong with it. Rows without a problem are deleted once they are accepted.
CREATE TABLE import_rows (
    import_id  uuid NOT NULL REFERENCES imports (id) ON DELETE CASCADE,
    line       bigint NOT NULL,
    raw        text NOT NULL,
    problem    json,                                -- column and reason
    PRIMARY KEY (import_id, line)
);
CREATE INDEX import_rows_rejected ON import_rows (import_id, line) WHERE problem IS NOT NULL;

ALTER TABLE user_writes ADD COLUMN import_id uuid;
CREATE INDEX user_writes_import ON user_writes (import_id) WHERE import_id IS NOT NULL;

-- A row: a delivery that waits until a write of its recipient is done. Its row in `queue` is due when the wait ends at the
-- latest; the write's result makes it due earlier.
CREATE TABLE fact_waits (
    delivery_id  uuid PRIMARY KEY,
    app_id       uuid NOT NULL,
    user_id      uuid NOT NULL,
    version      bigint NOT NULL,
    due_at       timestamptz NOT NULL
);
CREATE INDEX fact_waits_user ON fact_waits (app_id, user_id, version);
