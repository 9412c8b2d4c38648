-- $1 is sorted and has no id twice: see finish_deliveries.sql.
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
