-- Rejected webhook calls, and names of event types as other systems write them.

CREATE TABLE rejected_calls (
    source_id  uuid NOT NULL REFERENCES sources (id),
    reason     text NOT NULL,                       -- a code: `wrong_signature`
    calls      bigint NOT NULL CHECK (calls > 0),
    first_at   timestamptz NOT NULL,
    last_at    timestamptz NOT NULL,
    PRIMARY KEY (source_id, reason)
);

-- Names of event types as other systems write them: `Microsoft.Storage.BlobCreated`, `com.shop.cart-left`.
ALTER TABLE event_types DROP CONSTRAINT event_types_name_check;
ALTER TABLE event_types ADD CONSTRAINT event_types_name_check
    CHECK (name ~ '^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$' AND length(name) <= 128);
