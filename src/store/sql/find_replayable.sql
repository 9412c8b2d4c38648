-- Without ids it starts from the decisions. Accepted deliveries have none and are searched separately.
WITH named AS (
    SELECT id FROM unnest($1::uuid[]) AS n (id)
    UNION
    SELECT c.delivery_id
    FROM decisions c
    WHERE cardinality($1::uuid[]) = 0 AND c.delivery_id IS NOT NULL
      AND c.code = ANY (CASE WHEN $6::text IS NULL
        THEN ARRAY['rejected', 'exhausted', 'unknown', 'unreachable', 'expired', 'cancelled', 'throttled', 'superseded',
                   'opted_out', 'erased', 'replayed']
        ELSE ARRAY[$6::text] END)
      AND c.id >= $7 AND {days from c.id}
    UNION
    (
        SELECT d.id
        FROM deliveries d
        WHERE {days of d.id} AND cardinality($1::uuid[]) = 0 AND $6::text IS NULL AND 'accepted' = ANY ($2) AND d.state = 'accepted'
          AND d.id >= $7 AND d.id < $8
          AND ($3::text IS NULL OR EXISTS (
            SELECT 1 FROM events e WHERE e.id = d.event_id AND {days of e.id} AND e.type = $3 OFFSET 0
          ))
          AND ($4::text IS NULL OR d.rule_key = $4)
          AND ($5::text IS NULL OR d.template_key = $5)
        ORDER BY d.id
        LIMIT $9
    )
)
SELECT d.id, last.code, last.detail, again.id AS replayed_as
FROM named n
CROSS JOIN LATERAL (SELECT * FROM deliveries WHERE id = n.id AND {days of id} LIMIT 1) AS d
LEFT JOIN LATERAL (
    SELECT c.code, c.detail FROM decisions c WHERE c.delivery_id = d.id AND {days from c.id} ORDER BY c.id DESC LIMIT 1
) AS last ON true
LEFT JOIN LATERAL (
    SELECT r.id
    FROM deliveries r
    WHERE r.replay_of = d.id AND {days from r.id} AND r.state IN ('queued', 'sending', 'retrying', 'held', 'accepted', 'unknown')
    LIMIT 1
) AS again ON true
WHERE d.finished_at IS NOT NULL AND d.id >= $7 AND d.id < $8
  AND d.state::text = ANY ($2)
  AND ($3::text IS NULL OR EXISTS (
    SELECT 1 FROM events e WHERE e.id = d.event_id AND {days of e.id} AND e.type = $3 OFFSET 0
  ))
  AND ($4::text IS NULL OR d.rule_key = $4)
  AND ($5::text IS NULL OR d.template_key = $5)
  AND ($6::text IS NULL OR last.code = $6)
ORDER BY d.id
LIMIT $9
