-- Time and order: what a newer event replaces, what waits for its turn, what OneSignal holds until its time, and what
-- is gathered into one message.

-- `collapse_digest` finds what a newer event replaces: SHA-256 of source, collapse key, rule and recipient.
-- `order_digest` and `order_place` tell whose turn it is: SHA-256 of source, ordering key and recipient, and a number
-- that grows. Whoever waits for its turn is due in the far future, so that it lies behind everything that a claim looks
-- through; `blocked_due_at` keeps when it was due.
ALTER TABLE queue
    ADD COLUMN collapse_digest bytea,
    ADD COLUMN order_digest bytea,
    ADD COLUMN order_place bigint,
    ADD COLUMN blocked_due_at timestamptz,
    ADD CHECK ((order_digest IS NULL) = (order_place IS NULL)),
    ADD CHECK (blocked_due_at IS NULL OR (order_digest IS NOT NULL AND state IN ('queued', 'held')));
CREATE INDEX queue_collapse ON queue (collapse_digest) WHERE collapse_digest IS NOT NULL;
CREATE INDEX queue_order ON queue (order_digest, order_place) WHERE order_digest IS NOT NULL;

-- The newest event of each collapse digest. Its row's lock puts two replicas one after the other.
CREATE TABLE collapses (
    digest    bytea PRIMARY KEY CHECK (octet_length(digest) = 32),
    sequence  bigint,                               -- NULL: none of its events had one
    seen_at   timestamptz NOT NULL
) WITH (fillfactor = 80);
CREATE INDEX collapses_age ON collapses USING brin (seen_at);

-- Who waits for one another: a row while any of an order digest's deliveries is open. `moved_at` is when the present
-- head became the head.
CREATE TABLE orderings (
    digest      bytea PRIMARY KEY CHECK (octet_length(digest) = 32),
    last_place  bigint NOT NULL,
    moved_at    timestamptz NOT NULL
) WITH (fillfactor = 80);
CREATE INDEX orderings_age ON orderings (moved_at);

-- When OneSignal is to send what is handed over before its time.
ALTER TABLE deliveries ADD COLUMN send_after timestamptz;

-- What is handed over before its time, from its planning until that time is past; and who wants it back.
CREATE TABLE handed_over (
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
CREATE INDEX handed_over_cancel ON handed_over (cancel_digest) WHERE cancel_digest IS NOT NULL;
CREATE INDEX handed_over_message ON handed_over (provider_message_id) WHERE provider_message_id IS NOT NULL;
CREATE INDEX handed_over_wanted ON handed_over (next_try_at) WHERE next_try_at IS NOT NULL;
CREATE INDEX handed_over_age ON handed_over (send_after);

-- Windows that events join: `delivery_id` is the message that they are gathered for. Closed, which is deleted, when
-- that message is made.
CREATE TABLE digests (
    digest       bytea PRIMARY KEY CHECK (octet_length(digest) = 32),
    delivery_id  uuid NOT NULL,
    last_place   integer NOT NULL
) WITH (fillfactor = 80);
CREATE INDEX digests_delivery ON digests (delivery_id);

-- What was gathered, in the order of arrival; `most` is how many of them the message holds.
CREATE TABLE digest_items (
    delivery_id    uuid NOT NULL,
    place          integer NOT NULL CHECK (place > 0),
    event_id       uuid NOT NULL,
    most           integer NOT NULL CHECK (most > 0),
    cancel_digest  bytea,
    PRIMARY KEY (delivery_id, place)
);
CREATE INDEX digest_items_cancel ON digest_items (cancel_digest) WHERE cancel_digest IS NOT NULL;
CREATE INDEX digest_items_event ON digest_items (event_id);
