-- Inbound webhooks: how each source's calls are verified and mapped, their secrets, and the last bodies received.

CREATE TABLE webhooks (
    source_id   uuid PRIMARY KEY REFERENCES sources (id),
    settings    json NOT NULL,                      -- as in sources/<name>.toml; no secrets
    version     integer NOT NULL CHECK (version > 0),
    updated_at  timestamptz NOT NULL
);

-- Several may be active at a time, for rotation without downtime.
CREATE TABLE webhook_secrets (
    id          uuid PRIMARY KEY,
    source_id   uuid NOT NULL REFERENCES sources (id),
    sealed      bytea NOT NULL,
    hint        text NOT NULL,                      -- what may be shown of it
    is_test     boolean NOT NULL,                   -- its events reach sandbox apps only
    created_at  timestamptz NOT NULL,
    revoked_at  timestamptz
);
CREATE INDEX webhook_secrets_source ON webhook_secrets (source_id) WHERE revoked_at IS NULL;

-- The last bodies with a valid signature. Bounded by count and age for each source.
CREATE TABLE webhook_deliveries (
    id           uuid PRIMARY KEY,
    source_id    uuid NOT NULL REFERENCES sources (id),
    secret_id    uuid NOT NULL,
    is_test      boolean NOT NULL,
    state        text NOT NULL CHECK (state IN ('accepted', 'unmatched', 'refused')),
    detail       text NOT NULL,                     -- why not; never a value of the body
    event_id     uuid,
    size_bytes   integer NOT NULL CHECK (size_bytes >= 0),
    sealed       bytea,                             -- headers and body; NULL: it made an event with sensitive values
    received_at  timestamptz NOT NULL,
    settled_at   timestamptz NOT NULL,
    CHECK ((event_id IS NOT NULL) = (state = 'accepted')),
    CHECK (sealed IS NOT NULL OR state = 'accepted')
);
CREATE INDEX webhook_deliveries_source ON webhook_deliveries (source_id, id);
