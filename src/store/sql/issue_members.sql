-- Follows with_issues.sql: the deliveries of one group, newest first.
SELECT
    o.delivery_id, o.event_id, o.event_key, o.event_type, o.channel::text AS channel, o.template_version,
    o.recipient_label, o.recipient_id, o.created_at, o.detail
FROM (
    SELECT open.*, d.event_id, d.channel, d.template_version, d.recipient_label, d.recipient_id,
        e.event_key, e.type AS event_type
    FROM open
    JOIN deliveries d ON d.id = open.delivery_id
    JOIN events e ON e.id = d.event_id
    WHERE open.state = $3 AND open.code = $4 AND open.rule_key = $5 AND open.template_key = $6
      AND open.reason IS NOT DISTINCT FROM $7
      AND open.delivery_id < $8
) AS o
ORDER BY o.delivery_id DESC
LIMIT $9
