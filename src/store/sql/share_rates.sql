WITH reported AS (
    SELECT *
    FROM unnest($2::uuid[], $3::real[], $4::bigint[]) AS t (app_id, demand, messages)
), demands AS (
    INSERT INTO app_rate_shares (app_id, worker_id, demand, written_at)
    SELECT app_id, $1, demand, $5 FROM reported
    ON CONFLICT (app_id, worker_id) DO UPDATE SET demand = excluded.demand, written_at = excluded.written_at
), volumes AS (
    INSERT INTO app_message_counts (app_id, minute, worker_id, messages)
    SELECT app_id, $6, $1, messages FROM reported WHERE messages > 0
    ON CONFLICT (app_id, minute, worker_id) DO UPDATE SET messages = app_message_counts.messages + excluded.messages
), alive AS (
    SELECT w.id FROM workers w WHERE w.lease_until > $5 AND w.id <> $1
), theirs AS (
    SELECT d.app_id, sum(d.demand)::double precision AS demand
    FROM app_rate_shares d
    JOIN alive ON alive.id = d.worker_id
    WHERE d.app_id = ANY ($2)
    GROUP BY d.app_id
), sent AS (
    -- This statement does not see its own writes: they are added here.
    SELECT s.app_id, s.minute, sum(s.messages)::bigint AS messages
    FROM (
        SELECT v.app_id, v.minute, v.messages FROM app_message_counts v WHERE v.app_id = ANY ($2) AND v.minute >= $7
        UNION ALL
        SELECT t.app_id, $6, t.messages FROM reported t WHERE t.messages > 0
    ) AS s (app_id, minute, messages)
    GROUP BY s.app_id, s.minute
)
SELECT
    (SELECT count(*) FROM alive) AS others,
    (SELECT coalesce(array_agg(app_id ORDER BY app_id), '{}') FROM theirs) AS demand_apps,
    (SELECT coalesce(array_agg(demand ORDER BY app_id), '{}') FROM theirs) AS demands,
    (SELECT coalesce(array_agg(app_id ORDER BY app_id, minute), '{}') FROM sent) AS volume_apps,
    (SELECT coalesce(array_agg(minute ORDER BY app_id, minute), '{}') FROM sent) AS minutes,
    (SELECT coalesce(array_agg(messages ORDER BY app_id, minute), '{}') FROM sent) AS messages
