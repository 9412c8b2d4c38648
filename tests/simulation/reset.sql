-- The queue begins with empty pages: which of two equal rows comes first is to depend on the seed alone.
DROP SCHEMA IF EXISTS backup CASCADE;
TRUNCATE queue, workers, database_watch, app_rate_shares, app_message_counts, collapse_heads, ordering_lanes, scheduled_messages, digest_windows, digest_items, replays, gates, event_keys, provider_messages, sim_findings, sim_ends;
DELETE FROM events;
DELETE FROM event_payloads;
DELETE FROM event_secrets;
DELETE FROM deliveries;
DELETE FROM delivery_values;
DELETE FROM decisions;
DELETE FROM batches;
DELETE FROM attempts;
DELETE FROM users;
DELETE FROM template_uploads;
INSERT INTO template_uploads SELECT * FROM sim_uploads;
UPDATE templates t SET live_version = s.live_version FROM sim_templates s WHERE s.id = t.id;
UPDATE apps SET paused_at = NULL, paused_reason = NULL WHERE paused_at IS NOT NULL;
