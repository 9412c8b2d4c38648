-- The fast-changing half: events, deliveries, decisions and attempts.
-- Partitioned by day of the UUIDv7 id, without foreign keys between them; retention drops a partition.

CREATE TYPE delivery_state AS ENUM (
    'queued', 'sending', 'retrying', 'held',
    'accepted', 'unreachable', 'rejected', 'skipped', 'cancelled', 'expired', 'exhausted', 'unknown'
);

-- Serializes posts with the same event key. The unique index has no time column, or a duplicate a day later would be
-- accepted.
-- Pruned in small deletes; the BRIN index finds the old rows without costing an insert.
CREATE TABLE event_keys (
    source_id     uuid NOT NULL,
    key_digest    bytea NOT NULL,
    fingerprint   bytea NOT NULL,
    event_id      uuid NOT NULL,
    PRIMARY KEY (source_id, key_digest)
) PARTITION BY HASH (key_digest);
DO $$
BEGIN
    FOR i IN 0..7 LOOP
        EXECUTE format('CREATE TABLE event_keys_%s PARTITION OF event_keys FOR VALUES WITH (MODULUS 8, REMAINDER %s)', i, i);
        EXECUTE format('CREATE INDEX event_keys_%s_age ON event_keys_%s USING brin (event_id uuid_minmax_ops)', i, i);
    END LOOP;
END $$;

CREATE TABLE events (
    id                uuid PRIMARY KEY,
    source_id         uuid NOT NULL,
    key_id            uuid NOT NULL,
    event_key         text NOT NULL,
    type              text NOT NULL,
    recipients        json NOT NULL,
    occurred_at       timestamptz,
    received_at       timestamptz NOT NULL,
    locale            text,
    send_after        timestamptz,
    expires_at        timestamptz,
    cancellation_key  text,
    collapse_key      text,
    sequence          bigint,
    ordering_key      text,
    traceparent       text,
    is_test           boolean NOT NULL
) PARTITION BY RANGE (id);

-- `json`, not `jsonb`: the text is kept as it was parsed, so a body rebuilt for a retry has the same bytes.
CREATE TABLE event_payloads (
    event_id  uuid PRIMARY KEY,
    data      json NOT NULL
) PARTITION BY RANGE (event_id);

-- The values at sensitive paths, removed from `data` and sealed; erased after use.
CREATE TABLE event_secrets (
    event_id  uuid PRIMARY KEY,
    sealed    bytea NOT NULL
) PARTITION BY RANGE (event_id);

CREATE TABLE deliveries (
    id                   uuid PRIMARY KEY,
    event_id             uuid NOT NULL,
    rule_id              uuid NOT NULL,
    rule_key             text NOT NULL,
    app_id               uuid NOT NULL,
    channel              channel NOT NULL,
    priority             priority NOT NULL,
    template_key         text NOT NULL,
    template_version_id  uuid,                      -- NULL: held, no version was live
    template_version     integer,
    locale               text,
    recipient_label      text,                      -- NULL: an audience of segments or filters
    recipient_id         text,
    audience             json,
    expires_at           timestamptz NOT NULL,
    created_at           timestamptz NOT NULL,
    state                delivery_state NOT NULL,   -- the queue row is authoritative while it exists
    finished_at          timestamptz,
    batch_id             uuid,
    replay_of            uuid,
    CHECK ((recipient_label IS NULL) = (recipient_id IS NULL)),
    CHECK ((recipient_label IS NULL) <> (audience IS NULL)),
    CHECK ((finished_at IS NOT NULL) = (state NOT IN ('queued', 'sending', 'retrying', 'held')))
) PARTITION BY RANGE (id);
CREATE INDEX deliveries_recipient ON deliveries (recipient_id, id) WHERE recipient_id IS NOT NULL;

-- Values that a person supplied when releasing a held delivery, sealed.
CREATE TABLE delivery_values (
    delivery_id  uuid PRIMARY KEY,
    sealed       bytea NOT NULL,
    given_by     uuid NOT NULL,
    given_at     timestamptz NOT NULL
) PARTITION BY RANGE (delivery_id);

CREATE TABLE decisions (
    id           uuid NOT NULL,
    event_id     uuid NOT NULL,
    delivery_id  uuid,
    rule_key     text,
    code         text NOT NULL,
    detail       text NOT NULL,
    facts        json NOT NULL,                     -- the values that mattered, none of them sensitive
    PRIMARY KEY (id)
) PARTITION BY RANGE (id);
CREATE INDEX decisions_event ON decisions (event_id);
CREATE INDEX decisions_delivery ON decisions (delivery_id) WHERE delivery_id IS NOT NULL;

CREATE TABLE batches (
    id                   uuid PRIMARY KEY,
    app_id               uuid NOT NULL,
    idempotency_key      uuid NOT NULL,
    body_sha256          bytea NOT NULL CHECK (octet_length(body_sha256) = 32),
    template_version_id  uuid NOT NULL,
    locale               text NOT NULL,
    members              uuid[] NOT NULL CHECK (cardinality(members) > 0),
    created_at           timestamptz NOT NULL,
    is_void              boolean NOT NULL DEFAULT false -- surely never sent; its members went back to the queue
) PARTITION BY RANGE (id);

CREATE TABLE attempts (
    batch_id             uuid NOT NULL,
    n                    integer NOT NULL CHECK (n > 0),
    worker_id            uuid NOT NULL,
    started_at           timestamptz NOT NULL,
    answered_at          timestamptz,
    answer               text,                      -- the classified answer's code
    status               smallint,
    provider_message_id  text,
    is_replay            boolean,
    body                 text,                      -- the raw answer, cut to 4 KiB
    PRIMARY KEY (batch_id, n),
    CHECK ((answered_at IS NULL) = (answer IS NULL))
) PARTITION BY RANGE (batch_id);

-- The hot table: a narrow row per open delivery, deleted when it ends.
CREATE TABLE queue (
    delivery_id         uuid PRIMARY KEY,
    state               delivery_state NOT NULL CHECK (state IN ('queued', 'sending', 'retrying', 'held')),
    priority            priority NOT NULL,
    app_id              uuid NOT NULL,
    due_at              timestamptz NOT NULL,
    expires_at          timestamptz NOT NULL,
    worker_id           uuid,
    claim_epoch         integer NOT NULL CHECK (claim_epoch >= 0),
    batch_id            uuid,
    attempts            smallint NOT NULL CHECK (attempts >= 0),
    generation          smallint NOT NULL CHECK (generation >= 0),
    crashes             smallint NOT NULL CHECK (crashes >= 0),
    pack_limit          smallint NOT NULL CHECK (pack_limit > 0),
    is_rechecked        boolean NOT NULL,
    first_attempt_at    timestamptz,
    first_ambiguous_at  timestamptz,
    CHECK (state <> 'sending' OR worker_id IS NOT NULL),
    CHECK (state IN ('queued', 'sending') OR worker_id IS NULL),
    CHECK ((batch_id IS NOT NULL) = (state IN ('sending', 'retrying')))
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
CREATE INDEX queue_ready ON queue (priority, due_at) WHERE state IN ('queued', 'retrying') AND worker_id IS NULL;
CREATE INDEX queue_leased ON queue (worker_id) WHERE worker_id IS NOT NULL;
CREATE INDEX queue_batch ON queue (batch_id) WHERE state = 'retrying';
CREATE INDEX queue_held ON queue (expires_at) WHERE state = 'held';

-- Each process that sends has a row, with a new random id per start; a process whose lease expires loses its rows.
CREATE TABLE workers (
    id           uuid PRIMARY KEY,
    host         text NOT NULL,
    started_at   timestamptz NOT NULL,
    lease_until  timestamptz NOT NULL
);

-- Creates the day partitions that contain `day` (UTC) in every family; no effect if they exist.
CREATE FUNCTION create_day_partitions(day date) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    family text;
    part   text;
    low    uuid := uuid_floor(day);
    high   uuid := uuid_floor(day + 1);
BEGIN
    FOREACH family IN ARRAY ARRAY['events', 'event_payloads', 'event_secrets', 'deliveries', 'delivery_values',
                                  'decisions', 'batches', 'attempts'] LOOP
        part := family || '_' || to_char(day, 'YYYYMMDD');
        IF to_regclass(part) IS NULL THEN
            EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)', part, family, low, high);
            IF family = 'batches' THEN
                -- A unique index over all days would have to carry the day; within one day this is the guard.
                EXECUTE format('CREATE UNIQUE INDEX ON %I (app_id, idempotency_key) WHERE NOT is_void', part);
            ELSIF family = 'deliveries' THEN
                EXECUTE format('ALTER TABLE %I SET (fillfactor = 85)', part);
            END IF;
        END IF;
    END LOOP;
END $$;

-- The smallest UUIDv7 of a day (UTC): 48 bits of milliseconds, then zeros.
CREATE FUNCTION uuid_floor(day date) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
    SELECT (lpad(to_hex((extract(epoch FROM day::timestamp) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;

-- The bounds of the millisecond that an id was created in: an event's deliveries are created in the same one, so they
-- are found by their primary key without an index on the event.
CREATE FUNCTION uuid_of_millisecond(id uuid, later integer) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
    SELECT (
        lpad(to_hex(('x' || lpad(left(replace(id::text, '-', ''), 12), 16, '0'))::bit(64)::bigint + later), 12, '0')
        || repeat('0', 20)
    )::uuid
$$;
