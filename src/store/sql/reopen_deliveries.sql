UPDATE queue q
SET state = r.state::delivery_state,
    -- A blocked delivery stays blocked, whatever its due time is now.
    due_at = CASE WHEN q.blocked_due_at IS NULL THEN coalesce(r.due_at, q.due_at) ELSE q.due_at END,
    blocked_due_at = CASE WHEN q.blocked_due_at IS NOT NULL THEN coalesce(r.due_at, q.blocked_due_at) END,
    worker_id = NULL,
    claim_epoch = q.claim_epoch + 1,
    batch_id = r.batch_id,
    attempts = r.attempts,
    generation = r.generation,
    pack_limit = r.pack_limit,
    is_rechecked = r.is_rechecked,
    first_attempt_at = r.first_attempt_at,
    first_ambiguous_at = r.first_ambiguous_at,
    crashes = q.crashes + CASE WHEN r.crashed THEN 1 ELSE 0 END
FROM unnest(
    $1::uuid[], $2::uuid[], $3::integer[], $4::text[], $5::timestamptz[], $6::uuid[], $7::smallint[], $8::smallint[],
    $9::smallint[], $10::boolean[], $11::timestamptz[], $12::timestamptz[], $13::boolean[]
) AS r (
    delivery_id, worker_id, claim_epoch, state, due_at, batch_id, attempts, generation, pack_limit, is_rechecked,
    first_attempt_at, first_ambiguous_at, crashed
)
WHERE q.delivery_id = r.delivery_id AND q.claim_epoch = r.claim_epoch
  AND q.worker_id IS NOT DISTINCT FROM r.worker_id
RETURNING q.delivery_id, r.claim_epoch
