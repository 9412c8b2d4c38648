-- What replicas agree on about an app's calls, and when half-open gates are probed.

-- When the next probe may go, over all replicas.
ALTER TABLE gates ADD COLUMN probe_at timestamptz;

-- What the volume guard measures against; NULL: nobody said.
ALTER TABLE apps ADD COLUMN subscriptions integer CHECK (subscriptions > 0);

-- How much of an app's rate each replica could use, from 0 to 1. Written once a second while there is something to send.
CREATE TABLE app_demands (
    app_id      uuid NOT NULL,
    worker_id   uuid NOT NULL,
    demand      real NOT NULL CHECK (demand BETWEEN 0 AND 1),
    written_at  timestamptz NOT NULL,
    PRIMARY KEY (app_id, worker_id)
) WITH (fillfactor = 50);

-- Messages that went out through an app, by minute and replica; old minutes are deleted.
CREATE TABLE app_volumes (
    app_id     uuid NOT NULL,
    minute     timestamptz NOT NULL,
    worker_id  uuid NOT NULL,
    messages   bigint NOT NULL CHECK (messages >= 0),
    PRIMARY KEY (app_id, minute, worker_id)
) WITH (fillfactor = 50);

-- Deliveries end when their time is over, held ones and those that wait behind a gate alike.
DROP INDEX queue_held;
CREATE INDEX queue_expiring ON queue (expires_at) WHERE state IN ('queued', 'held') AND worker_id IS NULL;
