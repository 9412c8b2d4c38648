-- Changes after the penetration test.

-- A key can expire, can be limited to the events of some sources, and shows when it was used last.
ALTER TABLE api_keys
    ADD COLUMN expires_at       timestamptz,
    ADD COLUMN last_used_at     timestamptz,        -- within a minute
    ADD COLUMN allowed_sources  text[];             -- whose events and deliveries it sees; NULL: all

-- The API key that made a change; NULL for people, and for Herald itself.
ALTER TABLE audit_log ADD COLUMN key_id uuid;

-- Events that were posted with a test key are rare.
CREATE INDEX events_test ON events (id) WHERE is_test;

-- A plain hash of a batch's content let one-time codes be found by trying them. The old hashes are overwritten, so that
-- no dump has them; batches from before have none, and batches since then have a keyed one.
UPDATE batches SET body_sha256 = decode(repeat('00', 32), 'hex');
ALTER TABLE batches DROP COLUMN body_sha256;
ALTER TABLE batches ADD COLUMN body_fingerprint bytea;  -- the id of the vault's key, and an HMAC
