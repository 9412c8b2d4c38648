-- Detects a restore of the database and a step of its clock: one row, written every few seconds by each process that
-- serves.
CREATE TABLE database_watch (
    id             boolean PRIMARY KEY DEFAULT true CHECK (id),
    -- The latest time that was read, and whether every commit was on a synchronous standby then.
    read_at        timestamptz NOT NULL,
    is_loss_free   boolean NOT NULL,
    -- The cluster's system identifier with the oids of the database and of this table, and the cluster's timeline: each
    -- kind of restore changes one of them.
    identity       text NOT NULL,
    timeline       text NOT NULL,
    -- The last time that the clock went back, and by how many microseconds.
    stepped_at     timestamptz,
    stepped_us     bigint CHECK (stepped_us > 0),
    -- The last restore: when it was noticed, and since when commits may be missing. Until `alone_until`, deliveries are
    -- sent alone, so that each has the idempotency key that it had before.
    restored_at    timestamptz,
    restored_from  timestamptz,
    alone_until    timestamptz,
    CHECK ((stepped_at IS NULL) = (stepped_us IS NULL)),
    CHECK ((restored_at IS NULL) = (restored_from IS NULL))
) WITH (fillfactor = 50);
