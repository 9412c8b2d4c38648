-- $2 is sorted and has no id twice: see finish_deliveries.sql. OFFSET keeps conditions from becoming joins, so that each
-- is a look-up by key whatever the statistics say.
WITH allowed AS MATERIALIZED (
    SELECT w.delivery_id
    FROM unnest($2::uuid[], $5::text[], $6::text[], $7::text[], $10::uuid[], $11::uuid[], $12::bytea[])
        AS w (delivery_id, label, alias, channel, version_id, rule_id, digest)
    WHERE EXISTS (SELECT 1 FROM workers k WHERE k.id = $1 AND k.lease_until > $9)
      AND NOT EXISTS (
        SELECT 1 FROM gates g
        WHERE g.closed_until > $9
          AND (g.scope, g.subject) IN (('template_version', w.version_id::text), ('rule', w.rule_id::text))
        OFFSET 0
      )
      AND NOT EXISTS (SELECT 1 FROM erased_identifiers e WHERE e.digest = w.digest OFFSET 0)
      AND NOT EXISTS (
        SELECT 1
        FROM user_aliases a
        WHERE a.label = w.label AND a.alias = w.alias
          AND (
            EXISTS (SELECT 1 FROM users u WHERE u.id = a.user_id AND u.erased_at IS NOT NULL OFFSET 0)
            OR EXISTS (
              SELECT 1 FROM user_opt_outs o WHERE o.user_id = a.user_id AND o.channel = w.channel::channel OFFSET 0
            )
          )
        OFFSET 0
      )
), locked AS MATERIALIZED (
    -- Ordered by id, as cancellations lock them, so that they can't deadlock. The worker is compared so that no index
    -- on it looks better than the row's own: a worker may have tens of thousands of rows.
    SELECT q.delivery_id
    FROM queue q
    WHERE q.delivery_id = ANY (ARRAY(SELECT delivery_id FROM allowed))
      AND q.worker_id IS NOT DISTINCT FROM $1
      AND q.claim_epoch = ($3::integer[])[width_bucket(q.delivery_id, $2)]
      AND q.state = 'queued'
    ORDER BY q.delivery_id
    FOR UPDATE
)
UPDATE queue q
SET state = 'sending', batch_id = ($4::uuid[])[width_bucket(q.delivery_id, $2)],
    first_attempt_at = coalesce(q.first_attempt_at, $9)
WHERE q.delivery_id = ANY (ARRAY(SELECT delivery_id FROM locked))
  AND q.worker_id IS NOT DISTINCT FROM $1
  AND q.claim_epoch = ($3::integer[])[width_bucket(q.delivery_id, $2)]
  AND q.state = 'queued'
  AND q.expires_at > ($8::timestamptz[])[width_bucket(q.delivery_id, $2)]
  AND q.app_id::text <> ALL (ARRAY(SELECT g.subject FROM gates g WHERE g.scope = 'app' AND g.closed_until > $9))
  AND q.app_id <> ALL (ARRAY(SELECT p.id FROM apps p WHERE p.paused_at IS NOT NULL))
RETURNING q.delivery_id
