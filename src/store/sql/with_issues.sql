WITH recent AS MATERIALIZED (
    SELECT c.id, c.delivery_id, c.code, c.detail
    FROM decisions c
    WHERE c.id >= $1 AND {days of c.id} AND c.delivery_id IS NOT NULL
      AND c.code IN ('rejected', 'exhausted', 'unknown', 'unreachable', 'expired', 'missing_value', 'unsafe_value',
                     'no_live_version', 'too_large', 'needs_release', 'archived', 'poisonous', 'expression_failed')
    ORDER BY c.id DESC
    LIMIT $2
), last AS (
    SELECT DISTINCT ON (r.delivery_id) r.delivery_id, r.code, r.detail
    FROM recent r
    ORDER BY r.delivery_id, r.id DESC
), open AS (
    SELECT l.*, coalesce(q.state, d.state)::text AS state, d.rule_key, d.template_key, d.created_at,
        -- The details of these are the reason; those of others contain times.
        CASE WHEN l.code IN ('rejected', 'missing_value', 'unsafe_value') THEN l.detail END AS reason
    FROM last l
    CROSS JOIN LATERAL (SELECT * FROM deliveries WHERE id = l.delivery_id AND {days of id} LIMIT 1) AS d
    LEFT JOIN LATERAL (SELECT state FROM queue WHERE delivery_id = d.id LIMIT 1) AS q ON true
    WHERE coalesce(q.state, d.state) IN ('held', 'rejected', 'exhausted', 'unknown', 'unreachable', 'expired')
      AND NOT EXISTS (
        SELECT 1 FROM deliveries r WHERE r.replay_of = d.id AND {days of r.id} AND r.state IN ('queued', 'sending', 'retrying', 'accepted')
      )
)
