-- $1 the app, $2 a list of results, $3 now.
WITH results AS MATERIALIZED (
    SELECT *
    FROM jsonb_to_recordset($2) AS r (
        user_id uuid, epoch integer, version bigint, settled jsonb, is_settled boolean, due_at timestamptz,
        attempts smallint, max_new_tags smallint, is_in_doubt boolean, is_called boolean, confirm jsonb,
        forgets boolean, refuse jsonb, onesignal_id uuid, does_exist boolean, next_at timestamptz, holds_until timestamptz, answer text,
        detail text
    )
),
held AS MATERIALIZED (
    SELECT w.changes AS present, w.import_id, w.version AS present_version, r.*
    FROM user_writes w
    JOIN results r ON r.user_id = w.user_id AND r.epoch = w.claim_epoch
    WHERE w.app_id = $1
    ORDER BY w.user_id
    FOR UPDATE OF w
),
-- A part that was changed again in the meantime has another value, and stays.
rest AS MATERIALIZED (
    SELECT h.*, coalesce(open.changes, '{}') AS changes,
        -- A later write of equal values keeps the row: someone may wait for its version.
        open.changes IS NULL AND h.present_version = h.version AS is_gone
    FROM held h
    CROSS JOIN LATERAL (
        SELECT jsonb_object_agg(c.key, c.value) AS changes
        FROM jsonb_each(h.present) c
        WHERE h.settled -> c.key IS DISTINCT FROM c.value
    ) AS open
),
gone AS (
    DELETE FROM user_writes w
    USING rest
    WHERE w.app_id = $1 AND w.user_id = rest.user_id AND rest.is_gone
),
kept AS (
    UPDATE user_writes w
    SET changes = rest.changes, due_at = rest.due_at, attempts = rest.attempts, max_new_tags = rest.max_new_tags,
        is_in_doubt = rest.is_in_doubt
    FROM rest
    WHERE w.app_id = $1 AND w.user_id = rest.user_id AND NOT rest.is_gone
),
known AS (
    UPDATE user_syncs s
    -- What OneSignal has of a refused part is not certain.
    SET confirmed = (CASE WHEN rest.forgets THEN '{}' ELSE s.confirmed END || rest.confirm)
            - ARRAY(SELECT jsonb_object_keys(rest.refuse)),
        refused = (
            SELECT coalesce(jsonb_object_agg(f.key, f.value), '{}')
            FROM jsonb_each(s.refused || rest.refuse) f
            WHERE NOT rest.confirm ? f.key
        ),
        onesignal_id = coalesce(rest.onesignal_id, s.onesignal_id),
        exists_since = CASE WHEN rest.forgets THEN NULL WHEN rest.does_exist THEN coalesce(s.exists_since, $3) ELSE s.exists_since END,
        next_at = rest.next_at, answer = rest.answer, detail = rest.detail, answered_at = $3
    FROM rest
    WHERE s.app_id = $1 AND s.user_id = rest.user_id AND rest.is_called
    RETURNING s.user_id, s.refused
),
new AS (
    INSERT INTO user_syncs (app_id, user_id, confirmed, refused, onesignal_id, exists_since, next_at, answer, detail,
        answered_at)
    SELECT $1, user_id, confirm, refuse, onesignal_id, CASE WHEN does_exist THEN $3 END, next_at, answer, detail, $3
    FROM rest
    WHERE is_called AND NOT EXISTS (SELECT 1 FROM user_syncs s WHERE s.app_id = $1 AND s.user_id = rest.user_id)
),
finished AS (
    DELETE FROM tag_actions t
    USING rest
    WHERE t.app_id = $1 AND t.user_id = rest.user_id AND rest.is_settled AND t.version <= rest.version
    RETURNING t.action_id, t.user_id, t.tags, rest.refuse
),
-- A part may have been refused by an earlier call than the one that settled the rest.
ended AS (
    SELECT f.action_id, (
        SELECT r.value
        FROM unnest(f.tags) AS g (name)
        JOIN jsonb_each(coalesce(k.refused, f.refuse)) AS r ON r.key = 'tag/' || g.name
        LIMIT 1
    ) AS reason
    FROM finished f
    LEFT JOIN known k ON k.user_id = f.user_id
),
released AS (
    DELETE FROM fact_waits f
    USING rest
    WHERE f.app_id = $1 AND f.user_id = rest.user_id AND rest.is_settled AND f.version <= rest.version
    RETURNING f.delivery_id, f.due_at, rest.holds_until
),
freed AS (
    UPDATE queue q
    SET due_at = CASE WHEN q.blocked_due_at IS NULL THEN new.due_at ELSE q.due_at END,
        blocked_due_at = CASE WHEN q.blocked_due_at IS NOT NULL THEN new.due_at END
    FROM released r
    JOIN queue w ON w.delivery_id = r.delivery_id
    CROSS JOIN LATERAL (
        -- A code does not wait until OneSignal shows a new user everywhere: it is rechecked if it reaches nobody.
        SELECT greatest(r.due_at, $3, CASE WHEN w.priority <> 'urgent' THEN r.holds_until END) AS due_at
    ) AS new
    WHERE q.delivery_id = r.delivery_id AND q.state = 'queued' AND q.worker_id IS NULL
    RETURNING q.delivery_id
)
SELECT action_id, reason, 0 AS freed, NULL::uuid AS import_id, 0 AS sent, 0 AS refused FROM ended
UNION ALL
SELECT NULL, NULL, count(*), NULL, 0, 0 FROM freed
UNION ALL
SELECT NULL, NULL, 0, rest.import_id, count(*) FILTER (WHERE coalesce(k.refused, rest.refuse) = '{}'),
    count(*) FILTER (WHERE coalesce(k.refused, rest.refuse) <> '{}')
FROM rest
LEFT JOIN known k ON k.user_id = rest.user_id
WHERE rest.import_id IS NOT NULL AND rest.is_gone
GROUP BY rest.import_id
