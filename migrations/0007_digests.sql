-- Windows store the position of their last event; collected events store the maximum number in the message and what
-- cancels them. Nothing was written to these tables before.
ALTER TABLE digest_windows DROP COLUMN count, ADD COLUMN last_place integer NOT NULL;
ALTER TABLE digest_windows SET (fillfactor = 80);
ALTER TABLE digest_items
    ADD COLUMN max_items integer NOT NULL CHECK (max_items > 0),
    ADD COLUMN cancel_digest bytea;
CREATE INDEX digest_items_cancel ON digest_items (cancel_digest) WHERE cancel_digest IS NOT NULL;
