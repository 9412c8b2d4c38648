-- Apps, sources, the catalog and people: the slow-changing half of the schema.
-- No column has a time default: the clock's time is passed in.

CREATE TYPE channel AS ENUM ('push', 'email', 'sms');
CREATE TYPE priority AS ENUM ('urgent', 'normal', 'bulk');

-- One row: this deployment's identity. `namespace` seeds every idempotency key; back it up apart from the rest.
CREATE TABLE deployment (
    only_row      boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    namespace     uuid NOT NULL,
    created_at    timestamptz NOT NULL
);

-- One row: raised by every change to the catalog, read by every ingest transaction.
CREATE TABLE catalog_revision (
    only_row      boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    revision      bigint NOT NULL,
    changed_at    timestamptz
);
INSERT INTO catalog_revision (revision) VALUES (0);

CREATE TABLE apps (
    id                uuid PRIMARY KEY,             -- OneSignal's app id
    name              text NOT NULL UNIQUE CHECK (name <> ''),
    base_url          text NOT NULL,
    api_key           bytea NOT NULL,               -- sealed by the vault
    is_sandbox        boolean NOT NULL,
    is_default        boolean NOT NULL,
    calls_per_second  integer NOT NULL CHECK (calls_per_second > 0),
    paused_at         timestamptz,
    paused_reason     text,
    created_at        timestamptz NOT NULL,
    updated_at        timestamptz NOT NULL,
    CHECK ((paused_at IS NULL) = (paused_reason IS NULL))
);
CREATE UNIQUE INDEX apps_one_default ON apps (is_default) WHERE is_default;

CREATE TABLE sources (
    id                 uuid PRIMARY KEY,
    name               text NOT NULL UNIQUE CHECK (name ~ '^[a-z0-9][a-z0-9._-]{0,63}$'),
    allowed_types      text[],                      -- NULL: every type; `order.*` allows a family
    events_per_second  integer CHECK (events_per_second > 0),
    default_locale     text,
    created_at         timestamptz NOT NULL
);

CREATE TABLE api_keys (
    id             uuid PRIMARY KEY,
    source_id      uuid NOT NULL REFERENCES sources (id),
    hash           bytea NOT NULL UNIQUE CHECK (octet_length(hash) = 32),
    hint           text NOT NULL,                   -- what may be shown: `hk_live_…c2`
    is_test        boolean NOT NULL,
    scopes         text[] NOT NULL CHECK (cardinality(scopes) > 0),
    allowed_types  text[],
    created_at     timestamptz NOT NULL,
    revoked_at     timestamptz
);

-- What is known about people and decides whether and how messages are sent to them.
CREATE TABLE users (
    id          uuid PRIMARY KEY,
    locale      text,
    time_zone   text,
    erased_at   timestamptz,
    created_at  timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL
);
CREATE TABLE user_aliases (
    label    text NOT NULL,
    alias    text NOT NULL,
    user_id  uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    PRIMARY KEY (label, alias)
);
CREATE INDEX user_aliases_user ON user_aliases (user_id);
CREATE TABLE user_opt_outs (
    user_id  uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    channel  channel NOT NULL,
    since    timestamptz NOT NULL,
    PRIMARY KEY (user_id, channel)
);

CREATE TABLE event_types (
    name           text PRIMARY KEY CHECK (name ~ '^[a-z0-9_]+(\.[a-z0-9_]+)*$' AND length(name) <= 128),
    description    text NOT NULL,
    owner          text,
    schema         json NOT NULL,
    sensitive      text[] NOT NULL,                 -- JSON pointers into `data`
    time_to_live_s integer CHECK (time_to_live_s > 0),
    samples        json NOT NULL,
    updated_at     timestamptz NOT NULL
);

CREATE TABLE templates (
    id            uuid PRIMARY KEY,
    key           text NOT NULL UNIQUE CHECK (key ~ '^[a-z0-9][a-z0-9._-]{0,99}$'),
    channel       channel NOT NULL,
    description   text NOT NULL,
    live_version  uuid,
    created_at    timestamptz NOT NULL
);
CREATE TABLE template_versions (
    id              uuid PRIMARY KEY,
    template_id     uuid NOT NULL REFERENCES templates (id),
    number          integer NOT NULL CHECK (number > 0),
    mode            text NOT NULL CHECK (mode IN ('provider', 'inline')),
    default_locale  text NOT NULL,
    options         json NOT NULL,                  -- static OneSignal fields, sent as they are
    content_hash    bytea NOT NULL,
    author          text NOT NULL,
    note            text NOT NULL,
    created_at      timestamptz NOT NULL,
    UNIQUE (template_id, number)
);
ALTER TABLE templates ADD CONSTRAINT templates_live_version
    FOREIGN KEY (live_version) REFERENCES template_versions (id);
CREATE TABLE template_contents (
    version_id  uuid NOT NULL REFERENCES template_versions (id),
    locale      text NOT NULL,
    fields      json NOT NULL,
    PRIMARY KEY (version_id, locale)
);

-- Each (app, version, locale) is a separate OneSignal template. The row is written before the call is made.
CREATE TABLE template_uploads (
    app_id                uuid NOT NULL REFERENCES apps (id),
    version_id            uuid NOT NULL REFERENCES template_versions (id),
    locale                text NOT NULL,
    provider_template_id  text,                     -- NULL: wanted, not yet confirmed
    requested_at          timestamptz NOT NULL,
    uploaded_at           timestamptz,
    PRIMARY KEY (app_id, version_id, locale),
    CHECK ((provider_template_id IS NULL) = (uploaded_at IS NULL))
);

CREATE TABLE rules (
    id             uuid PRIMARY KEY,
    key            text NOT NULL UNIQUE CHECK (key ~ '^[a-z0-9][a-z0-9._-]{0,99}$'),
    event_type     text NOT NULL,
    description    text NOT NULL,
    app_id         uuid REFERENCES apps (id),       -- NULL: the default app
    template_key   text NOT NULL,
    audience       json NOT NULL,
    priority       priority NOT NULL,
    delay_s        integer NOT NULL CHECK (delay_s >= 0),
    expires_in_s   integer CHECK (expires_in_s > 0),
    is_enabled     boolean NOT NULL,
    updated_at     timestamptz NOT NULL
);
CREATE INDEX rules_event_type ON rules (event_type);

-- A stop for an app, a template version, a priority or a rule. Deliveries stay queued behind it and show it.
-- `closed_until` in the past: half open, one call may probe.
CREATE TABLE gates (
    scope         text NOT NULL CHECK (scope IN ('app', 'template_version', 'priority', 'rule')),
    subject       text NOT NULL,
    code          text NOT NULL,
    detail        text NOT NULL,
    closed_at     timestamptz NOT NULL,
    closed_until  timestamptz NOT NULL,
    times_closed  integer NOT NULL CHECK (times_closed > 0),
    PRIMARY KEY (scope, subject)
);
