WITH result AS (
    SELECT *
    FROM unnest($1::uuid[], $2::uuid[], $3::integer[], $4::text[], $5::uuid[])
        AS r (delivery_id, worker_id, claim_epoch, state, batch_id)
), gone AS (
    DELETE FROM queue q
    USING result r
    WHERE q.delivery_id = r.delivery_id AND q.claim_epoch = r.claim_epoch
      AND q.worker_id IS NOT DISTINCT FROM r.worker_id
    -- A delivery that was still blocked unblocks no other.
    RETURNING q.delivery_id, q.claim_epoch, CASE WHEN q.blocked_due_at IS NULL THEN q.order_digest END AS order_digest,
        r.state, r.batch_id
), kept_back AS (
    -- OneSignal has nothing of it that could be recalled.
    DELETE FROM scheduled_messages h
    USING gone g
    WHERE h.delivery_id = g.delivery_id AND g.state <> 'accepted'
)
UPDATE deliveries d
SET state = g.state::delivery_state, finished_at = $6, batch_id = g.batch_id
FROM gone g
-- By the id only: with bounds as well, each row would be searched among all that are within them.
WHERE d.id = g.delivery_id
RETURNING d.id, g.claim_epoch, g.order_digest
