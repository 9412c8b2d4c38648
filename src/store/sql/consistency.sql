-- One statement, so that everything is counted at the same moment. All of it is bounded by the ids of the window.
WITH delivery AS MATERIALIZED (
    SELECT d.id, d.event_id, d.state AS ended, d.finished_at, d.batch_id, q.state AS open, q.delivery_id IS NOT NULL AS has_row
    FROM deliveries d
    LEFT JOIN queue q ON q.delivery_id = d.id
    WHERE d.id >= $1
), batch AS MATERIALIZED (
    SELECT b.id, b.app_id, b.idempotency_key, b.members,
        EXISTS (SELECT 1 FROM attempts a WHERE a.batch_id = b.id AND a.answer = 'accepted') AS is_accepted
    FROM batches b
    WHERE b.id >= $1 AND NOT b.is_void
), line AS (
    SELECT 1 AS place, 'events accepted' AS name, false AS is_wrong, count(*) AS count, NULL::uuid AS example
    FROM events e WHERE e.id >= $1
    UNION ALL
    SELECT 2, 'deliveries ' || coalesce(t.open, t.ended)::text, false, count(*), NULL
    FROM delivery t GROUP BY coalesce(t.open, t.ended)
    UNION ALL
    SELECT 3, 'calls that OneSignal accepted', false, count(*), NULL FROM batch s WHERE s.is_accepted
    UNION ALL
    SELECT 4, 'deliveries that shared a call, which a restore of an older backup could duplicate', false, count(*), NULL
    FROM batch s, unnest(s.members) WHERE s.is_accepted AND cardinality(s.members) > 1
    UNION ALL
    SELECT 5, 'events with neither a delivery nor a decision', true, count(*), (array_agg(e.id))[1]
    FROM events e
    WHERE e.id >= $1
      AND NOT EXISTS (SELECT 1 FROM decisions c WHERE c.event_id = e.id)
      AND NOT EXISTS (SELECT 1 FROM delivery t WHERE t.event_id = e.id)
    UNION ALL
    SELECT 6, 'open deliveries without a queue row', true, count(*), (array_agg(t.id))[1]
    FROM delivery t WHERE t.finished_at IS NULL AND NOT t.has_row
    UNION ALL
    SELECT 7, 'ended deliveries with a queue row', true, count(*), (array_agg(t.id))[1]
    FROM delivery t WHERE t.finished_at IS NOT NULL AND t.has_row
    UNION ALL
    SELECT 8, 'queue rows without a delivery', true, count(*), (array_agg(q.delivery_id))[1]
    FROM queue q
    WHERE q.delivery_id >= $1 AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.id = q.delivery_id)
    UNION ALL
    SELECT 9, 'accepted deliveries without an accepted call', true, count(*), (array_agg(t.id))[1]
    FROM delivery t
    LEFT JOIN batches b ON b.id = t.batch_id
    WHERE t.ended = 'accepted' AND NOT coalesce(
        NOT b.is_void AND t.id = ANY (b.members)
            AND EXISTS (SELECT 1 FROM attempts a WHERE a.batch_id = b.id AND a.answer = 'accepted'), false)
    UNION ALL
    SELECT 10, 'deliveries in two accepted calls', true, count(*), (array_agg(twice.id))[1]
    FROM (
        SELECT m.id FROM batch s, unnest(s.members) AS m (id) WHERE s.is_accepted GROUP BY m.id HAVING count(*) > 1
    ) AS twice
    UNION ALL
    SELECT 11, 'idempotency keys of two batches', true, count(*), (array_agg(twice.idempotency_key))[1]
    FROM (
        SELECT s.idempotency_key FROM batch s GROUP BY s.app_id, s.idempotency_key HAVING count(*) > 1
    ) AS twice
    UNION ALL
    SELECT 12, 'ended but not accepted deliveries without a decision', true, count(*), (array_agg(t.id))[1]
    FROM delivery t
    WHERE t.finished_at IS NOT NULL AND t.ended <> 'accepted'
      AND NOT EXISTS (SELECT 1 FROM decisions c WHERE c.delivery_id = t.id)
)
SELECT name, is_wrong, count, example FROM line ORDER BY place, name
