-- $1 now, $2 the clock before the step, $3 how far it went back, $4 how long OneSignal may take for an attempt.
WITH late AS (
    SELECT q.delivery_id,
        CASE
            WHEN q.blocked_due_at IS NOT NULL OR q.due_at <= $1 THEN q.due_at
            WHEN q.state = 'retrying' OR q.attempts > 0
            THEN greatest($1, least(q.due_at, greatest(
                q.due_at - $3::interval,
                -- Urgent calls need not wait for the previous one.
                CASE WHEN q.priority <> 'urgent' THEN (
                    SELECT max(CASE WHEN a.started_at > $1 THEN a.started_at - $3::interval ELSE a.started_at END)
                    FROM attempts a
                    WHERE a.batch_id = q.batch_id AND {days of a.batch_id}
                ) + $4::interval END
            )))
            WHEN waits.is_there THEN greatest($1, q.due_at - $3::interval)
            ELSE $1
        END AS due_at,
        -- Behind its predecessor: when it was to be sent.
        CASE WHEN q.blocked_due_at > $1 THEN $1 ELSE q.blocked_due_at END AS blocked_due_at
    FROM queue q
    JOIN deliveries d ON d.id = q.delivery_id
    CROSS JOIN LATERAL (SELECT EXISTS (SELECT 1 FROM fact_waits f WHERE f.delivery_id = q.delivery_id) AS is_there) AS waits
    WHERE {days of d.id} AND q.state IN ('queued', 'retrying') AND q.delivery_id > $5
      AND CASE
        WHEN q.blocked_due_at IS NOT NULL
        THEN q.blocked_due_at > $1 AND q.blocked_due_at <= $2 AND q.blocked_due_at <= d.created_at + interval '1 second'
        ELSE q.due_at > $1
          AND (q.state = 'retrying' OR q.attempts > 0 OR waits.is_there
              OR (q.due_at <= $2 AND q.due_at <= d.created_at + interval '1 second'))
      END
    ORDER BY q.delivery_id
    LIMIT $6
    FOR UPDATE OF q
), repaired AS (
    UPDATE queue q SET due_at = late.due_at, blocked_due_at = late.blocked_due_at
    FROM late
    WHERE q.delivery_id = late.delivery_id
), facts AS (
    -- When the message may be sent once its recipient's facts are written.
    UPDATE fact_waits f SET due_at = $1
    FROM late, deliveries d
    WHERE f.delivery_id = late.delivery_id AND d.id = late.delivery_id AND {days of d.id}
      AND f.due_at > $1 AND f.due_at <= d.created_at + interval '1 second'
)
SELECT delivery_id FROM late ORDER BY delivery_id DESC LIMIT 1
