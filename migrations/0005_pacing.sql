-- Pacing and replays: what replicas agree on about an app's calls, half-open gates, replays.

-- When the next probe may be sent, across all replicas.
ALTER TABLE gates ADD COLUMN probe_at timestamptz;

-- The number that the volume guard compares with; NULL: not set.
ALTER TABLE apps ADD COLUMN subscriptions integer CHECK (subscriptions > 0);

-- The share of an app's rate that each replica could use, from 0 to 1. Written once a second while there is something
-- to send.
CREATE TABLE app_rate_shares (
    app_id      uuid NOT NULL,
    worker_id   uuid NOT NULL,
    demand      real NOT NULL CHECK (demand BETWEEN 0 AND 1),
    written_at  timestamptz NOT NULL,
    PRIMARY KEY (app_id, worker_id)
) WITH (fillfactor = 50);

-- Messages sent through an app, by minute and replica; old minutes are deleted.
CREATE TABLE app_message_counts (
    app_id     uuid NOT NULL,
    minute     timestamptz NOT NULL,
    worker_id  uuid NOT NULL,
    messages   bigint NOT NULL CHECK (messages >= 0),
    PRIMARY KEY (app_id, minute, worker_id)
) WITH (fillfactor = 50);

-- Deliveries end when they expire, including held ones and those that wait behind a gate.
DROP INDEX queue_held;
CREATE INDEX queue_expiring ON queue (expires_at) WHERE state IN ('queued', 'held') AND worker_id IS NULL;

-- An update of an app names the version that it is based on.
-- The default stays for the previous release, which inserts apps without it.
ALTER TABLE apps ADD COLUMN version integer NOT NULL DEFAULT 1 CHECK (version > 0);

-- Decisions by reason and time: dead letters are found by it. Deliveries without problems have none.
CREATE INDEX decisions_code ON decisions (code, id) WHERE delivery_id IS NOT NULL;

-- Deliveries that were replayed, and by whom. `request_key` makes a repeated request idempotent.
CREATE TABLE replays (
    id           uuid PRIMARY KEY,
    at           timestamptz NOT NULL,
    actor        text NOT NULL,
    reason       text NOT NULL CHECK (reason <> ''),
    request      json NOT NULL,
    deliveries   integer NOT NULL CHECK (deliveries > 0),
    request_key  text UNIQUE
);
CREATE INDEX deliveries_replays ON deliveries (replay_of) WHERE replay_of IS NOT NULL;
