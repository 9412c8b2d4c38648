WITH due AS (
    SELECT q.delivery_id
    FROM queue q
    WHERE q.priority = $2::priority AND q.state = 'queued' AND q.worker_id IS NULL
      AND q.due_at >= $3 AND q.due_at <= $4
      AND q.app_id <> ALL ($5::uuid[])
      AND EXISTS (SELECT 1 FROM workers k WHERE k.id = $1 AND k.fenced_at IS NULL)
    ORDER BY q.due_at
    LIMIT $6
    FOR UPDATE SKIP LOCKED
)
UPDATE queue q
SET worker_id = $1, claim_epoch = q.claim_epoch + 1
WHERE q.delivery_id = ANY (ARRAY(SELECT delivery_id FROM due))
RETURNING
    q.delivery_id, q.state::text AS state, q.priority::text AS priority, q.app_id, q.due_at, q.expires_at, q.claim_epoch,
    q.batch_id, q.attempts, q.generation, q.crashes, q.pack_limit, q.is_rechecked, q.first_attempt_at,
    q.first_ambiguous_at
