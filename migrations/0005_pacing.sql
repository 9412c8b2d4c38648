-- Pacing and going again: what replicas agree on about an app's calls, half-open gates, replays.

-- When the next probe may go, over all replicas.
ALTER TABLE gates ADD COLUMN probe_at timestamptz;

-- What the volume guard measures against; NULL: nobody said.
ALTER TABLE apps ADD COLUMN subscriptions integer CHECK (subscriptions > 0);

-- How much of an app's rate each replica could use, from 0 to 1. Written once a second while there is something to send.
CREATE TABLE app_rate_shares (
    app_id      uuid NOT NULL,
    worker_id   uuid NOT NULL,
    demand      real NOT NULL CHECK (demand BETWEEN 0 AND 1),
    written_at  timestamptz NOT NULL,
    PRIMARY KEY (app_id, worker_id)
) WITH (fillfactor = 50);

-- Messages that went out through an app, by minute and replica; old minutes are deleted.
CREATE TABLE app_message_counts (
    app_id     uuid NOT NULL,
    minute     timestamptz NOT NULL,
    worker_id  uuid NOT NULL,
    messages   bigint NOT NULL CHECK (messages >= 0),
    PRIMARY KEY (app_id, minute, worker_id)
) WITH (fillfactor = 50);

-- Deliveries end when their time is over, held ones and those that wait behind a gate alike.
DROP INDEX queue_held;
CREATE INDEX queue_expiring ON queue (expires_at) WHERE state IN ('queued', 'held') AND worker_id IS NULL;

-- Who changes an app says which version was seen.
-- The default stays for the version before, which enters apps without saying it.
ALTER TABLE apps ADD COLUMN version integer NOT NULL DEFAULT 1 CHECK (version > 0);

-- What left the happy path, by why and when: what dead letters are found by. Nothing of it is written on the happy path.
CREATE INDEX decisions_code ON decisions (code, id) WHERE delivery_id IS NOT NULL;

-- Deliveries that were made again, and by whom. `request_key` makes asking twice the same as asking once.
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
