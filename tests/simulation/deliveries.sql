SELECT d.id, d.event_id, d.rule_key, d.channel::text AS channel, d.recipient_id,
    coalesce(q.state, d.state)::text AS state, d.batch_id,
    (SELECT count(*) FROM decisions c WHERE c.delivery_id = d.id) AS decisions,
    e.attempts AS end_attempts, e.generation AS end_generation
FROM deliveries d
LEFT JOIN queue q ON q.delivery_id = d.id
LEFT JOIN sim_ends e ON e.delivery_id = d.id
ORDER BY d.id
