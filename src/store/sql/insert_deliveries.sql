WITH new AS (
    SELECT *
    FROM unnest(
        $1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::uuid[], $6::text[], $7::text[], $8::text[], $9::uuid[],
        $10::integer[], $11::text[], $12::text[], $13::text[], $14::text[], $15::timestamptz[], $16::timestamptz[],
        $17::text[], $18::timestamptz[], $19::uuid[], $20::uuid[], $21::text[], $22::bytea[], $23::bytea[],
        $24::bytea[], $25::bigint[], $26::timestamptz[], $27::timestamptz[]
    ) AS n (
        id, event_id, rule_id, rule_key, app_id, channel, priority, template_key, template_version_id, template_version,
        locale, recipient_label, recipient_id, audience, expires_at, created_at, state, due_at, worker_id, batch_id,
        schedule, cancel_digest, collapse_digest, order_digest, order_place, blocked_due_at, send_after
    )
), planned AS (
    INSERT INTO deliveries (
        id, event_id, rule_id, rule_key, app_id, channel, priority, template_key, template_version_id, template_version,
        locale, recipient_label, recipient_id, audience, expires_at, created_at, state, finished_at,
        schedule, send_after
    )
    SELECT
        id, event_id, rule_id, rule_key, app_id, channel::channel, priority::priority, template_key, template_version_id,
        template_version, locale, recipient_label, recipient_id, audience::json, expires_at, created_at,
        state::delivery_state, CASE WHEN state = 'skipped' THEN created_at END, schedule::json, send_after
    FROM new
), scheduled_messages AS (
    INSERT INTO scheduled_messages (delivery_id, event_id, rule_key, app_id, cancel_digest, send_after, tries)
    SELECT id, event_id, rule_key, app_id, cancel_digest, send_after, 0
    FROM new
    WHERE send_after IS NOT NULL AND state <> 'skipped'
)
INSERT INTO queue (
    delivery_id, state, priority, app_id, due_at, expires_at, worker_id, claim_epoch, batch_id, attempts, generation,
    crashes, pack_limit, is_rechecked, first_attempt_at, cancel_digest,
    collapse_digest, order_digest, order_place, blocked_due_at
)
SELECT
    id, state::delivery_state, priority::priority, app_id, due_at, expires_at, worker_id,
    CASE WHEN worker_id IS NULL THEN 0 ELSE 1 END, batch_id, 0, 0, 0, $28::smallint, false,
    CASE WHEN state = 'sending' THEN created_at END, cancel_digest, collapse_digest, order_digest, order_place, blocked_due_at
FROM new
WHERE state <> 'skipped'
