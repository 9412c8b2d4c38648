-- A frozen batch is taken over as a whole: the advisory lock keeps two replicas from sharing its members.
WITH candidates AS (
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
), mine AS (
    SELECT batch_id
    FROM candidates
    WHERE pg_try_advisory_xact_lock(hashtextextended(batch_id::text, 0))
), claimed AS (
    UPDATE queue q
    SET state = 'sending', worker_id = $1, claim_epoch = q.claim_epoch + 1
    FROM mine
    WHERE q.batch_id = mine.batch_id AND q.state = 'retrying'
    RETURNING q.*
), begun AS (
    INSERT INTO attempts (batch_id, n, worker_id, started_at)
    SELECT b.batch_id, (SELECT coalesce(max(a.n), 0) + 1 FROM attempts a WHERE a.batch_id = b.batch_id), $1, $2
    FROM (SELECT DISTINCT batch_id FROM claimed) AS b
)
SELECT
    q.delivery_id, q.state::text AS state, q.priority::text AS priority, q.app_id, q.due_at, q.expires_at, q.claim_epoch,
    q.batch_id, q.attempts, q.generation, q.crashes, q.pack_limit, q.is_rechecked, q.first_attempt_at,
    q.first_ambiguous_at
FROM claimed q
