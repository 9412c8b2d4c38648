-- Outcomes: what devices and mailboxes reported, joined to deliveries, counted, and numbered for readers.

-- A row: a report that was received, by its id in Event Streams. The unique index has no time column, or a repeat after
-- midnight would count twice. Pruned in small deletes; the BRIN index finds the old rows without costing an insert.
CREATE TABLE outcome_keys (
    key          uuid PRIMARY KEY,
    received_at  timestamptz NOT NULL
) PARTITION BY HASH (key);
DO $$
BEGIN
    FOR i IN 0..7 LOOP
        EXECUTE format('CREATE TABLE outcome_keys_%s PARTITION OF outcome_keys FOR VALUES WITH (MODULUS 8, REMAINDER %s)', i, i);
        EXECUTE format('CREATE INDEX outcome_keys_%s_age ON outcome_keys_%s USING brin (received_at)', i, i);
    END LOOP;
END $$;

-- A row: a report that is not recorded yet: it has just arrived, or Herald does not know its message (yet).
CREATE TABLE outcome_reports (
    key              uuid PRIMARY KEY,
    message_id       text NOT NULL,
    kind             text NOT NULL,
    channel          text NOT NULL,
    occurred_at      timestamptz NOT NULL,
    external_id      text NOT NULL,
    onesignal_id     text NOT NULL,
    subscription_id  text NOT NULL,
    device           text NOT NULL,
    reason           text NOT NULL,                 -- without addresses
    received_at      timestamptz NOT NULL,
    due_at           timestamptz NOT NULL,
    is_parked        boolean NOT NULL DEFAULT false -- its message was unknown when it was read
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
CREATE INDEX outcome_reports_due ON outcome_reports (due_at);
CREATE INDEX outcome_reports_parked ON outcome_reports (message_id) WHERE is_parked;

-- A row: a body that is not JSON, sealed. The newest are kept, for a limited time.
CREATE TABLE malformed_reports (
    key          uuid PRIMARY KEY,
    received_at  timestamptz NOT NULL,
    sealed       bytea NOT NULL,
    detail       text NOT NULL
);
CREATE INDEX malformed_reports_age ON malformed_reports (received_at);

-- A row: a message at OneSignal, stored with the answer that named it.
CREATE TABLE provider_messages (
    id           text PRIMARY KEY,
    batch_id     uuid NOT NULL,
    accepted_at  timestamptz NOT NULL,
    reported_at  timestamptz,                       -- when the first outcome of it was recorded
    due_at       timestamptz,                       -- when its members are counted; NULL: all of them are
    counted_at   timestamptz,                       -- when the last of them was
    uncounted    uuid[]                             -- members that are not counted; NULL: none has been looked at
);
CREATE INDEX provider_messages_due ON provider_messages (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX provider_messages_age ON provider_messages USING brin (accepted_at);
CREATE INDEX provider_messages_counted ON provider_messages (counted_at);

-- A row: one kind of outcome of a delivery on one device. Its values are the least or the greatest of what was reported, so
-- that neither order nor repetition matters. `person` is empty unless the delivery is for an audience.
CREATE TABLE outcomes (
    delivery_id   uuid NOT NULL,
    person        text NOT NULL,
    subscription  text NOT NULL,
    kind          text NOT NULL,
    first_at      timestamptz NOT NULL,
    last_at       timestamptz NOT NULL,
    device        text NOT NULL,
    reason        text NOT NULL,
    PRIMARY KEY (delivery_id, person, subscription, kind)
) PARTITION BY RANGE (delivery_id);

-- A row: people and devices by the day on which OneSignal accepted their messages. Changed in the transaction that records
-- an outcome, by what the outcome changed.
CREATE TABLE outcome_counts (
    day               date NOT NULL,
    template_key      text NOT NULL,
    template_version  integer NOT NULL,
    rule_key          text NOT NULL,
    event_type        text NOT NULL,
    channel           channel NOT NULL,
    locale            text NOT NULL,
    accepted          bigint NOT NULL,
    reported          bigint NOT NULL,              -- with any outcome
    measurable        bigint NOT NULL,              -- on a device that can confirm delivery
    sent              bigint NOT NULL,
    delivered         bigint NOT NULL,
    opened            bigint NOT NULL,
    opened_soon       bigint NOT NULL,              -- within seconds: probably automatic
    clicked           bigint NOT NULL,
    clicked_soon      bigint NOT NULL,
    failed            bigint NOT NULL,
    bounced           bigint NOT NULL,
    suppressed        bigint NOT NULL,
    unsubscribed      bigint NOT NULL,
    complained        bigint NOT NULL,
    devices           bigint NOT NULL,
    devices_delivered bigint NOT NULL,
    PRIMARY KEY (day, template_key, template_version, rule_key, event_type, channel, locale)
);

-- A row: how many reports of a day were received, repeated, malformed, of an unknown kind, or foreign.
CREATE TABLE report_counts (
    day    date NOT NULL,
    name   text NOT NULL,
    count  bigint NOT NULL,
    PRIMARY KEY (day, name)
);

-- A row: a new outcome, numbered in the order of commits.
CREATE TABLE outcome_feed (
    number       bigint PRIMARY KEY,
    recorded_at  timestamptz NOT NULL,
    delivery_id  uuid NOT NULL,
    body         json NOT NULL
);

-- One row: the last number of the feed. Who records outcomes locks it until the commit, so there is one at a time.
CREATE TABLE outcome_position (
    only_row  boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    number    bigint NOT NULL
);
INSERT INTO outcome_position (number) VALUES (0);

-- Why a person gets no messages on a channel.
ALTER TABLE user_opt_outs ADD COLUMN reason text NOT NULL DEFAULT 'preference'
    CHECK (reason IN ('preference', 'unsubscribed', 'complained', 'bounced', 'suppressed'));

CREATE INDEX user_syncs_onesignal ON user_syncs (onesignal_id) WHERE onesignal_id IS NOT NULL;

CREATE OR REPLACE FUNCTION create_day_partitions(day date) RETURNS void LANGUAGE plpgsql
SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    family text;
    part   text;
    low    uuid := uuid_floor(day);
    high   uuid := uuid_floor(day + 1);
BEGIN
    FOREACH family IN ARRAY ARRAY['events', 'event_payloads', 'event_secrets', 'deliveries', 'delivery_values',
                                  'decisions', 'batches', 'attempts', 'planned_actions', 'outcomes'] LOOP
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

-- Days that exist already.
DO $$
DECLARE
    day text;
BEGIN
    FOR day IN SELECT right(c.relname, 8) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'deliveries'::regclass
    LOOP
        PERFORM create_day_partitions(to_date(day, 'YYYYMMDD'));
    END LOOP;
END $$;

-- Messages that OneSignal accepted before.
INSERT INTO provider_messages (id, batch_id, accepted_at, due_at)
SELECT DISTINCT ON (provider_message_id) provider_message_id, batch_id, answered_at, answered_at
FROM attempts
WHERE provider_message_id IS NOT NULL
ORDER BY provider_message_id, answered_at;
