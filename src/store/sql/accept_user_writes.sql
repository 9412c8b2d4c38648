-- A time far ahead is from before the clock went back.
-- $1 the app, $2 users, $3 changes, $4 creates, $5 origin, $6 now. One row per user.
INSERT INTO user_writes AS w (app_id, user_id, changes, creates, origin, version, due_at, created_at)
SELECT $1, n.user_id, n.changes::jsonb, n.creates, $5, nextval('user_write_versions'), least(greatest($6, s.next_at), $6::timestamptz + interval '10 seconds'), $6
FROM unnest($2::uuid[], $3::text[], $4::boolean[]) AS n (user_id, changes, creates)
LEFT JOIN user_syncs s ON s.app_id = $1 AND s.user_id = n.user_id
ORDER BY n.user_id
ON CONFLICT (user_id, app_id) DO UPDATE
SET changes = w.changes || excluded.changes,
    creates = w.creates OR excluded.creates,
    origin = least(w.origin, excluded.origin),
    -- Drawn under the row's lock: a later change has a larger one.
    version = nextval('user_write_versions')
RETURNING w.user_id, w.version
