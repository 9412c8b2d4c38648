WITH wanted AS (
    SELECT *
    FROM unnest(
        $2::uuid[], $3::integer[], $4::uuid[], $5::text[], $6::text[], $7::text[], $8::timestamptz[], $10::uuid[],
        $11::uuid[]
    ) AS w (delivery_id, claim_epoch, batch_id, label, alias, channel, alive_until, version_id, rule_id)
), locked AS MATERIALIZED (
    -- Ordered by id, as cancellations lock them, so that they can't deadlock. The worker is compared so that no index
    -- on it looks better than the row's own: a worker may have tens of thousands of rows.
    SELECT w.*
    FROM wanted w
    JOIN queue q ON q.delivery_id = w.delivery_id
    WHERE q.worker_id IS NOT DISTINCT FROM $1 AND q.claim_epoch = w.claim_epoch AND q.state = 'queued'
    ORDER BY q.delivery_id
    FOR UPDATE OF q
)
UPDATE queue q
SET state = 'sending', batch_id = w.batch_id, first_attempt_at = coalesce(q.first_attempt_at, $9)
FROM locked w
WHERE q.delivery_id = w.delivery_id AND q.worker_id IS NOT DISTINCT FROM $1 AND q.claim_epoch = w.claim_epoch
  AND q.state = 'queued'
  AND q.expires_at > w.alive_until
  AND EXISTS (SELECT 1 FROM workers k WHERE k.id = $1 AND k.lease_until > $9)
  AND NOT EXISTS (
    SELECT 1 FROM gates g
    WHERE g.closed_until > $9
      AND (g.scope, g.subject) IN (
        ('app', q.app_id::text), ('template_version', w.version_id::text), ('rule', w.rule_id::text)
      )
  )
  AND NOT EXISTS (SELECT 1 FROM apps p WHERE p.id = q.app_id AND p.paused_at IS NOT NULL)
  AND NOT EXISTS (
    SELECT 1
    FROM user_aliases a
    JOIN users u ON u.id = a.user_id
    WHERE a.label = w.label AND a.alias = w.alias
      AND (
        u.erased_at IS NOT NULL
        OR EXISTS (SELECT 1 FROM user_opt_outs o WHERE o.user_id = u.id AND o.channel = w.channel::channel)
      )
  )
RETURNING q.delivery_id
