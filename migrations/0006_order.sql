-- Time and order: what a newer event replaces, which deliveries follow one another, what OneSignal holds until its time, and
-- what is collected into one message.

-- `collapse_digest` finds what a newer event replaces: SHA-256 of source, collapse key, rule and recipient.
-- `order_digest` and `order_place` determine the order: SHA-256 of source, ordering key and recipient, and an
-- increasing number. A delivery that waits for its predecessor is due in the far future, so that claims don't scan it;
-- `blocked_due_at` is its original due time.
ALTER TABLE queue
    ADD COLUMN collapse_digest bytea,
    ADD COLUMN order_digest bytea,
    ADD COLUMN order_place bigint,
    ADD COLUMN blocked_due_at timestamptz,
    ADD CHECK ((order_digest IS NULL) = (order_place IS NULL)),
    ADD CHECK (blocked_due_at IS NULL OR (order_digest IS NOT NULL AND state IN ('queued', 'held')));
CREATE INDEX queue_collapse ON queue (collapse_digest) WHERE collapse_digest IS NOT NULL;
CREATE INDEX queue_order ON queue (order_digest, order_place) WHERE order_digest IS NOT NULL;

-- The newest event of each collapse digest. A lock on its row serializes two replicas.
CREATE TABLE collapse_heads (
    digest    bytea PRIMARY KEY CHECK (octet_length(digest) = 32),
    sequence  bigint,                               -- NULL: none of its events had one
    seen_at   timestamptz NOT NULL
) WITH (fillfactor = 80);
CREATE INDEX collapse_heads_age ON collapse_heads USING brin (seen_at);

-- Ordering lanes: a row while any of an order digest's deliveries is open. `moved_at` is when the current head became
-- the head.
CREATE TABLE ordering_lanes (
    digest      bytea PRIMARY KEY CHECK (octet_length(digest) = 32),
    last_place  bigint NOT NULL,
    moved_at    timestamptz NOT NULL
) WITH (fillfactor = 80);
CREATE INDEX ordering_lanes_age ON ordering_lanes (moved_at);

-- When OneSignal is to send what is submitted before its time.
ALTER TABLE deliveries ADD COLUMN send_after timestamptz;

-- What is submitted before its time, from its planning until that time has passed; and who requested its recall.
CREATE TABLE scheduled_messages (
    delivery_id          uuid PRIMARY KEY,
    event_id             uuid NOT NULL,
    rule_key             text NOT NULL,
    app_id               uuid NOT NULL,
    cancel_digest        bytea,
    send_after           timestamptz NOT NULL,
    provider_message_id  text,                      -- NULL until OneSignal took it
    wanted_at            timestamptz,               -- when it was first to be taken back
    wanted_by            text,
    tries                integer NOT NULL CHECK (tries >= 0),
    next_try_at          timestamptz,
    CHECK ((wanted_at IS NULL) = (wanted_by IS NULL)),
    CHECK ((wanted_at IS NULL) = (next_try_at IS NULL))
);
CREATE INDEX scheduled_messages_cancel ON scheduled_messages (cancel_digest) WHERE cancel_digest IS NOT NULL;
CREATE INDEX scheduled_messages_message ON scheduled_messages (provider_message_id) WHERE provider_message_id IS NOT NULL;
CREATE INDEX scheduled_messages_wanted ON scheduled_messages (next_try_at) WHERE next_try_at IS NOT NULL;
CREATE INDEX scheduled_messages_age ON scheduled_messages (send_after);

-- Windows that events join: `delivery_id` is the message that they are collected for. A window is closed, which means
-- deleted, when that message is made.
CREATE TABLE digest_windows (
    digest       bytea PRIMARY KEY CHECK (octet_length(digest) = 32),
    delivery_id  uuid NOT NULL,
    count        integer NOT NULL CHECK (count > 0)
);
CREATE INDEX digest_windows_delivery ON digest_windows (delivery_id);

-- The collected events, in the order of arrival.
CREATE TABLE digest_items (
    delivery_id  uuid NOT NULL,
    place        integer NOT NULL CHECK (place > 0),
    event_id     uuid NOT NULL,
    PRIMARY KEY (delivery_id, place)
);
CREATE INDEX digest_items_event ON digest_items (event_id);
