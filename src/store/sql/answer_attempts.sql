UPDATE attempts a
SET answered_at = $8, answer = r.answer, status = r.status, provider_message_id = r.message, is_replay = r.is_replay,
    body = r.body
FROM unnest($1::uuid[], $2::integer[], $3::text[], $4::smallint[], $5::text[], $6::boolean[], $7::text[])
    AS r (batch_id, n, answer, status, message, is_replay, body)
WHERE a.batch_id = r.batch_id AND a.n = r.n AND a.answered_at IS NULL
