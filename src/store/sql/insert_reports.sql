-- $1 to $10 the reports' columns, $11 to $13 bodies that are not JSON, $14 all keys, $15 how many calls there were, $16 now,
-- $17 today. A key that was received before makes nothing new.
WITH new AS (
    INSERT INTO outcome_keys (key, received_at)
    SELECT key, $16
    FROM unnest($14::uuid[]) AS k (key)
    ORDER BY key
    ON CONFLICT DO NOTHING
    RETURNING key
), reports AS (
    INSERT INTO outcome_reports (key, message_id, kind, channel, occurred_at, external_id, onesignal_id, subscription_id,
        device, reason, received_at, due_at)
    SELECT r.key, r.message_id, r.kind, r.channel, r.occurred_at, r.external_id, r.onesignal_id, r.subscription_id,
        r.device, r.reason, $16, $16
    FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::text[], $7::text[], $8::text[],
            $9::text[], $10::text[])
        AS r (key, message_id, kind, channel, occurred_at, external_id, onesignal_id, subscription_id, device, reason)
    WHERE r.key IN (SELECT key FROM new)
    RETURNING key
), malformed AS (
    INSERT INTO malformed_reports (key, received_at, sealed, detail)
    SELECT m.key, $16, m.sealed, m.detail
    FROM unnest($11::uuid[], $12::bytea[], $13::text[]) AS m (key, sealed, detail)
    WHERE m.key IN (SELECT key FROM new)
    RETURNING key
)
INSERT INTO report_counts (day, name, count)
SELECT $17::date, c.name, c.count
FROM (
    SELECT 'received' AS name, $15::bigint AS count
    UNION ALL
    SELECT 'repeated', $15 - (SELECT count(*) FROM new)
    UNION ALL
    SELECT 'malformed', (SELECT count(*) FROM malformed)
) AS c
WHERE c.count > 0
ORDER BY c.name
ON CONFLICT (day, name) DO UPDATE SET count = report_counts.count + excluded.count
