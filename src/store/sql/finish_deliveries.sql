-- $1 is sorted and has no id twice, so that `width_bucket` is the place of an id in it. There are no joins: a plan made
-- while a table was empty could read all of it for each statement, or compare every row with every other.
WITH gone AS (
    DELETE FROM queue q
    WHERE q.delivery_id = ANY ($1)
      AND q.worker_id IS NOT DISTINCT FROM ($2::uuid[])[width_bucket(q.delivery_id, $1::uuid[])]
      AND q.claim_epoch = ($3::integer[])[width_bucket(q.delivery_id, $1)]
    -- A delivery that was still blocked unblocks no other.
    RETURNING q.delivery_id, q.claim_epoch, CASE WHEN q.blocked_due_at IS NULL THEN q.order_digest END AS order_digest
), kept_back AS (
    -- OneSignal has nothing of it that could be recalled.
    DELETE FROM scheduled_messages h
    WHERE h.delivery_id = ANY (ARRAY(SELECT delivery_id FROM gone))
      AND ($4::text[])[width_bucket(h.delivery_id, $1)] <> 'accepted'
), ended AS (
    UPDATE deliveries d
    SET state = ($4::text[])[width_bucket(d.id, $1)]::delivery_state, finished_at = $6,
        batch_id = ($5::uuid[])[width_bucket(d.id, $1)]
    WHERE d.id = ANY (ARRAY(SELECT delivery_id FROM gone)) AND {days of d.id}
)
SELECT delivery_id AS id, claim_epoch, order_digest FROM gone
