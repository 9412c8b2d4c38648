WITH due AS (
    SELECT app_id, user_id, is_in_doubt
    FROM user_writes
    WHERE app_id = $1 AND due_at <= $2
    ORDER BY origin, due_at
    LIMIT $3
    FOR UPDATE SKIP LOCKED
),
claimed AS (
    UPDATE user_writes w
    SET due_at = $4, claim_epoch = w.claim_epoch + 1, is_in_doubt = true
    FROM due
    WHERE w.app_id = due.app_id AND w.user_id = due.user_id
    RETURNING w.user_id, w.changes, w.creates, w.version, w.claim_epoch, w.attempts, w.max_new_tags,
        due.is_in_doubt AS was_in_doubt
)
SELECT
    c.*,
    s.confirmed,
    s.refused,
    s.exists_since,
    (SELECT jsonb_object_agg(a.label, a.alias) FROM user_aliases a WHERE a.user_id = c.user_id) AS aliases
FROM claimed c
LEFT JOIN user_syncs s ON s.app_id = $1 AND s.user_id = c.user_id
