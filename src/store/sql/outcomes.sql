-- The first deliveries of each event, those of one channel and state together.
SELECT n.id AS event_id, f.channel::text AS channel, f.state::text AS state, max(f.due_at) AS due_at, count(*) AS count
FROM unnest($1::uuid[]) AS n (id)
CROSS JOIN LATERAL (
    SELECT d.channel, coalesce(q.state, d.state) AS state, coalesce(q.blocked_due_at, q.due_at) AS due_at
    FROM deliveries d
    LEFT JOIN queue q ON q.delivery_id = d.id
    WHERE d.event_id = n.id AND d.id >= uuid_of_millisecond(n.id, 0) AND d.id < uuid_of_millisecond(n.id, 1)
    ORDER BY d.id
    LIMIT $2
) AS f
GROUP BY n.id, f.channel, f.state, f.due_at > $3
ORDER BY n.id, f.channel, f.state
