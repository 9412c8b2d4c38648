WITH frozen AS (
    INSERT INTO batches (
        id, app_id, idempotency_key, body_fingerprint, template_version_id, locale, members, created_at
    )
    SELECT
        id, app_id, idempotency_key, body_fingerprint, template_version_id, locale,
        ($8::uuid[])[coalesce(lag(last) OVER (ORDER BY place), 0) + 1 : last], $9
    FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::bytea[], $5::uuid[], $6::text[], $7::integer[])
        WITH ORDINALITY AS b (
            id, app_id, idempotency_key, body_fingerprint, template_version_id, locale, last, place
        )
)
INSERT INTO attempts (batch_id, n, worker_id, started_at)
SELECT id, 1, $10, $9
FROM unnest($1::uuid[]) AS b (id)
