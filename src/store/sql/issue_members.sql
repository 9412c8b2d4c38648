-- Follows with_issues.sql: the deliveries of one group, newest first.
SELECT
    o.delivery_id, o.event_id, o.channel::text AS channel, o.template_version,
    o.recipient_label, o.recipient_id, o.created_at, o.detail
FROM (
    SELECT open.*, d.event_id, d.channel, d.template_version, d.recipient_label, d.recipient_id
    FROM open
    CROSS JOIN LATERAL (SELECT * FROM deliveries WHERE id = open.delivery_id AND {days of id} LIMIT 1) AS d
    WHERE open.state = $3 AND open.code = $4 AND open.rule_key = $5 AND open.template_key = $6
      AND open.reason IS NOT DISTINCT FROM $7
      AND open.delivery_id < $8
) AS o
ORDER BY o.delivery_id DESC
LIMIT $9
