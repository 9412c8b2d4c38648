-- The catalog's life cycle: drafts and versions, partials, rules with conditions and actions, and the audit log.

ALTER TABLE event_types ADD COLUMN version integer NOT NULL DEFAULT 1 CHECK (version > 0);
ALTER TABLE event_types ALTER COLUMN version DROP DEFAULT;

-- Pieces of copy that templates include, and layouts of emails.
CREATE TABLE partials (
    key          text PRIMARY KEY CHECK (key ~ '^[a-z0-9][a-z0-9._-]{0,99}$'),
    description  text NOT NULL,
    body         text NOT NULL,
    version      integer NOT NULL CHECK (version > 0),
    updated_at   timestamptz NOT NULL
);

ALTER TABLE templates
    ADD COLUMN version integer NOT NULL DEFAULT 1 CHECK (version > 0),
    ADD COLUMN owner text,
    ADD COLUMN event_type text,                     -- the type that it is written for, besides those of its rules
    ADD COLUMN needs_approval boolean NOT NULL DEFAULT false,
    ADD COLUMN archived_at timestamptz;
ALTER TABLE templates ALTER COLUMN version DROP DEFAULT, ALTER COLUMN needs_approval DROP DEFAULT;

-- `partials` contains what the version was published with: later changes of a partial do not affect it.
ALTER TABLE template_versions
    ADD COLUMN language_by text NOT NULL DEFAULT 'herald' CHECK (language_by IN ('herald', 'onesignal')),
    ADD COLUMN layout text,
    ADD COLUMN partials json NOT NULL DEFAULT '{}',
    ADD COLUMN restores integer,                    -- rolled back: the number of the version that it repeats
    ADD COLUMN approved_by text;
ALTER TABLE template_versions ALTER COLUMN language_by DROP DEFAULT, ALTER COLUMN partials DROP DEFAULT;

-- One draft per template. `revision` is its ETag: a save over an older revision is rejected.
CREATE TABLE template_drafts (
    template_id  uuid PRIMARY KEY REFERENCES templates (id) ON DELETE CASCADE,
    revision     integer NOT NULL CHECK (revision > 0),
    content      json NOT NULL,
    based_on     integer,
    author       text NOT NULL,
    updated_at   timestamptz NOT NULL,
    approved_by  text,                              -- of this exact revision; cleared by a save
    CHECK (approved_by IS NULL OR approved_by <> author)
);

-- A rule's definition, apart from its event type and template, is one document, read and written as a whole.
ALTER TABLE rules ADD COLUMN version integer NOT NULL DEFAULT 1 CHECK (version > 0), ADD COLUMN definition json;
UPDATE rules SET definition = json_strip_nulls(json_build_object(
    'description', description,
    'app', app_id,
    'action', json_build_object('send', json_build_object('template', template_key, 'audience', audience)),
    'priority', priority,
    'timing', json_build_object('delay_s', delay_s),
    'expires_in_s', expires_in_s
));
ALTER TABLE rules
    ALTER COLUMN version DROP DEFAULT,
    ALTER COLUMN definition SET NOT NULL,
    ALTER COLUMN template_key DROP NOT NULL,
    DROP COLUMN description,
    DROP COLUMN app_id,
    DROP COLUMN audience,
    DROP COLUMN priority,
    DROP COLUMN delay_s,
    DROP COLUMN expires_in_s;

-- Who changed what, when, from what to what. Append-only.
CREATE TABLE audit_log (
    id       uuid PRIMARY KEY,
    at       timestamptz NOT NULL,
    actor    text NOT NULL,
    action   text NOT NULL,
    kind     text NOT NULL,
    subject  text NOT NULL,
    before   json,
    after    json,
    note     text NOT NULL
);
CREATE INDEX audit_log_subject ON audit_log (kind, subject, id);
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is appended to, never changed';
END $$;
CREATE TRIGGER audit_log_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- The recipients that test sends may go to.
CREATE TABLE test_recipients (
    label  text NOT NULL,
    id     text NOT NULL,
    note   text NOT NULL,
    PRIMARY KEY (label, id)
);

-- Changes to people at OneSignal, planned by `tag` and `track` rules.
CREATE TABLE planned_actions (
    id               uuid PRIMARY KEY,
    event_id         uuid NOT NULL,
    rule_key         text NOT NULL,
    app_id           uuid NOT NULL,
    kind             text NOT NULL CHECK (kind IN ('tag', 'track')),
    recipient_label  text NOT NULL,
    recipient_id     text NOT NULL,
    body             json NOT NULL,
    created_at       timestamptz NOT NULL
) PARTITION BY RANGE (id);

-- How much of a rule's throttle a person has used in a window.
CREATE TABLE throttle_counters (
    rule_id       uuid NOT NULL,
    person        bytea NOT NULL CHECK (octet_length(person) = 32),
    window_start  timestamptz NOT NULL,
    used          integer NOT NULL CHECK (used >= 0),
    PRIMARY KEY (rule_id, person, window_start)
);
CREATE INDEX throttle_counters_age ON throttle_counters USING brin (window_start);

-- What OneSignal does with the scheduled time (`delayed_option` and the like), pinned when planned.
ALTER TABLE deliveries ADD COLUMN schedule json;

-- Finds the deliveries that a cancellation names: SHA-256 of source and key.
ALTER TABLE queue ADD COLUMN cancel_digest bytea;
CREATE INDEX queue_cancel ON queue (cancel_digest) WHERE cancel_digest IS NOT NULL;

-- The last events of a type, for traffic checks.
CREATE INDEX events_type ON events (type, id);

-- A process that creates a template at OneSignal holds a lease on it. `content_hash` and `drift` are its state at
-- OneSignal when it was created or last checked; `unused_since` is when it was first found that nothing refers to it.
ALTER TABLE template_uploads
    ADD COLUMN leased_until timestamptz,
    ADD COLUMN unused_since timestamptz,
    ADD COLUMN content_hash bytea,
    ADD COLUMN checked_at timestamptz,
    ADD COLUMN drift text CHECK (drift IN ('edited', 'deleted'));

-- When the templates at OneSignal were last checked: one process a day does it.
ALTER TABLE apps ADD COLUMN templates_checked_at timestamptz;

CREATE OR REPLACE FUNCTION create_day_partitions(day date) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    family text;
    part   text;
    low    uuid := uuid_floor(day);
    high   uuid := uuid_floor(day + 1);
BEGIN
    FOREACH family IN ARRAY ARRAY['events', 'event_payloads', 'event_secrets', 'deliveries', 'delivery_values',
                                  'decisions', 'batches', 'attempts', 'planned_actions'] LOOP
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
