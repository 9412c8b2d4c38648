WITH stored AS (
    INSERT INTO events (
        id, source_id, key_id, event_key, type, recipients, occurred_at, received_at, locale, send_after, expires_at,
        cancellation_key, collapse_key, sequence, ordering_key, traceparent, is_test, unanswered_for
    )
    SELECT
        id, source_id, key_id, event_key, type, recipients::json, occurred_at, received_at, locale, send_after,
        expires_at, cancellation_key, collapse_key, sequence, ordering_key, traceparent, is_test, unanswered_for
    FROM unnest(
        $1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::timestamptz[], $8::timestamptz[],
        $9::text[], $10::timestamptz[], $11::timestamptz[], $12::text[], $13::text[], $14::bigint[], $15::text[],
        $16::text[], $17::boolean[], $21::text[]
    ) AS e (
        id, source_id, key_id, event_key, type, recipients, occurred_at, received_at, locale, send_after, expires_at,
        cancellation_key, collapse_key, sequence, ordering_key, traceparent, is_test, unanswered_for
    )
), payloads AS (
    INSERT INTO event_payloads (event_id, data)
    SELECT event_id, data::json
    FROM unnest($1::uuid[], $18::text[]) AS p (event_id, data)
)
INSERT INTO event_secrets (event_id, sealed)
SELECT event_id, sealed
FROM unnest($19::uuid[], $20::bytea[]) AS s (event_id, sealed)
