SELECT DISTINCT c.batch_id
FROM (
    SELECT q.batch_id
    FROM queue q
    WHERE q.state = 'retrying' AND q.worker_id IS NULL AND q.due_at <= $2 AND q.app_id <> ALL ($3::uuid[])
      AND EXISTS (SELECT 1 FROM workers k WHERE k.id = $1 AND k.fenced_at IS NULL)
    ORDER BY q.priority, q.due_at
    LIMIT $4 * 50
) AS c
LIMIT $4
