WITH wanted AS (
    SELECT w.*
    FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::integer[], $5::text[], $6::timestamptz[])
        AS w (id, replay_of, version_id, version, locale, expires_at)
    WHERE $7 OR NOT EXISTS (
        SELECT 1
        FROM deliveries r
        WHERE r.replay_of = w.replay_of AND {days from r.id}
          AND r.state IN ('queued', 'sending', 'retrying', 'held', 'accepted', 'unknown')
    )
), planned AS (
    INSERT INTO deliveries (
        id, event_id, rule_id, rule_key, app_id, channel, priority, template_key, template_version_id, template_version,
        locale, recipient_label, recipient_id, audience, expires_at, created_at, state, replay_of, schedule
    )
    SELECT
        w.id, d.event_id, d.rule_id, d.rule_key, d.app_id, d.channel, 'bulk', d.template_key, w.version_id, w.version,
        w.locale, d.recipient_label, d.recipient_id, d.audience, w.expires_at, $8, 'queued', d.id, d.schedule
    FROM wanted w
    CROSS JOIN LATERAL (SELECT * FROM deliveries WHERE id = w.replay_of AND {days of id} LIMIT 1) AS d
    RETURNING id, app_id, expires_at
)
INSERT INTO queue (
    delivery_id, state, priority, app_id, due_at, expires_at, claim_epoch, attempts, generation, crashes, pack_limit,
    is_rechecked
)
SELECT id, 'queued', 'bulk', app_id, $8, expires_at, 0, 0, 0, 0, $9, false
FROM planned
RETURNING delivery_id
