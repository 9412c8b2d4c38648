-- $1 is sorted and has no id twice: see finish_deliveries.sql.
WITH answered AS (
    UPDATE attempts a
    SET answered_at = $8,
        answer = ($3::text[])[width_bucket(a.batch_id, $1)],
        status = ($4::smallint[])[width_bucket(a.batch_id, $1)],
        provider_message_id = ($5::text[])[width_bucket(a.batch_id, $1)],
        is_replay = ($6::boolean[])[width_bucket(a.batch_id, $1)],
        body = ($7::text[])[width_bucket(a.batch_id, $1)]
    WHERE a.batch_id = ANY ($1::uuid[]) AND {days of a.batch_id}
      AND a.n = ($2::integer[])[width_bucket(a.batch_id, $1)]
      AND a.answered_at IS NULL
    RETURNING a.batch_id, a.provider_message_id
)
-- Outcomes are joined to deliveries by this row. A repeated call has the same message.
INSERT INTO provider_messages (id, batch_id, accepted_at, due_at)
SELECT provider_message_id, batch_id, $8, $8
FROM answered
WHERE provider_message_id IS NOT NULL
ORDER BY provider_message_id
ON CONFLICT DO NOTHING
