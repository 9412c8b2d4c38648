WITH late AS (
    SELECT q.delivery_id,
        CASE WHEN q.state = 'retrying' OR q.attempts > 0
            THEN greatest($1, least(q.due_at, greatest(
                q.due_at - $3::interval,
                -- Urgent calls need not wait for the previous one.
                CASE WHEN q.priority <> 'urgent' THEN (
                    SELECT max(CASE WHEN a.started_at > $1 THEN a.started_at - $3::interval ELSE a.started_at END)
                    FROM attempts a
                    WHERE a.batch_id = q.batch_id AND {days of a.batch_id}
                ) + $4::interval END
            )))
            ELSE $1
        END AS due_at
    FROM queue q
    JOIN deliveries d ON d.id = q.delivery_id
    WHERE {days of d.id} AND q.state IN ('queued', 'retrying') AND q.blocked_due_at IS NULL AND q.due_at > $1 AND q.delivery_id > $5
      AND (q.state = 'retrying' OR q.attempts > 0
          OR (q.due_at <= $2 AND q.due_at <= d.created_at + interval '1 second'))
    ORDER BY q.delivery_id
    LIMIT $6
    FOR UPDATE OF q
), repaired AS (
    UPDATE queue q SET due_at = late.due_at
    FROM late
    WHERE q.delivery_id = late.delivery_id
)
SELECT delivery_id FROM late ORDER BY delivery_id DESC LIMIT 1
