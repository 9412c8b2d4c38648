-- The first deliveries of each event, grouped by channel and state. The limits keep each step to a few lookups by key,
-- whatever the planner estimates.
SELECT n.id AS event_id, f.channel::text AS channel, coalesce(q.state, f.state)::text AS state, max(q.due_at) AS due_at,
    count(*) AS count
FROM unnest($1::uuid[]) AS n (id)
CROSS JOIN LATERAL (
    SELECT d.id, d.channel, d.state
    FROM deliveries d
    WHERE d.event_id = n.id AND d.id >= uuid_of_millisecond(n.id, 0) AND d.id < uuid_of_millisecond(n.id, 1)
      AND {days of d.id}
    ORDER BY d.id
    LIMIT $2
) AS f
LEFT JOIN LATERAL (
    SELECT state, coalesce(blocked_due_at, due_at) AS due_at FROM queue WHERE delivery_id = f.id LIMIT 1
) AS q ON true
GROUP BY n.id, f.channel, coalesce(q.state, f.state), q.due_at > $3
ORDER BY n.id, f.channel, coalesce(q.state, f.state)
