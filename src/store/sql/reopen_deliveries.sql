-- $1 is sorted and has no id twice: see finish_deliveries.sql.
UPDATE queue q
SET state = ($4::text[])[width_bucket(q.delivery_id, $1)]::delivery_state,
    -- A blocked delivery stays blocked, whatever its due time is now.
    due_at = CASE WHEN q.blocked_due_at IS NULL
        THEN coalesce(($5::timestamptz[])[width_bucket(q.delivery_id, $1)], q.due_at)
        ELSE q.due_at
    END,
    blocked_due_at = CASE WHEN q.blocked_due_at IS NOT NULL
        THEN coalesce(($5::timestamptz[])[width_bucket(q.delivery_id, $1)], q.blocked_due_at)
    END,
    worker_id = NULL,
    claim_epoch = q.claim_epoch + 1,
    batch_id = ($6::uuid[])[width_bucket(q.delivery_id, $1)],
    attempts = ($7::smallint[])[width_bucket(q.delivery_id, $1)],
    generation = ($8::smallint[])[width_bucket(q.delivery_id, $1)],
    pack_limit = ($9::smallint[])[width_bucket(q.delivery_id, $1)],
    is_rechecked = ($10::boolean[])[width_bucket(q.delivery_id, $1)],
    first_attempt_at = ($11::timestamptz[])[width_bucket(q.delivery_id, $1)],
    first_ambiguous_at = ($12::timestamptz[])[width_bucket(q.delivery_id, $1)],
    crashes = q.crashes + CASE WHEN ($13::boolean[])[width_bucket(q.delivery_id, $1)] THEN 1 ELSE 0 END
WHERE q.delivery_id = ANY ($1::uuid[])
  AND q.worker_id IS NOT DISTINCT FROM ($2::uuid[])[width_bucket(q.delivery_id, $1)]
  AND q.claim_epoch = ($3::integer[])[width_bucket(q.delivery_id, $1)]
RETURNING q.delivery_id, q.claim_epoch - 1
