WITH due AS (
    SELECT id
    FROM custom_events
    WHERE app_id = $1 AND due_at <= $2
    ORDER BY due_at
    LIMIT $3
    FOR UPDATE SKIP LOCKED
)
UPDATE custom_events e
SET due_at = $4, claim_epoch = e.claim_epoch + 1, first_attempt_at = coalesce(e.first_attempt_at, $2)
FROM due
WHERE e.id = due.id
RETURNING e.*
