-- A frozen batch is taken over as a whole: the advisory lock keeps two replicas from sharing its members. Of what was
-- found before, only what is still due and without an owner is claimed.
WITH mine AS MATERIALIZED (
    SELECT c.batch_id
    FROM unnest($3::uuid[]) AS c (batch_id)
    WHERE EXISTS (SELECT 1 FROM workers k WHERE k.id = $1 AND k.fenced_at IS NULL)
      AND (SELECT min(q.due_at) FROM queue q WHERE q.batch_id = c.batch_id AND q.state = 'retrying') <= $2
      AND pg_try_advisory_xact_lock(hashtextextended(c.batch_id::text, 0))
), claimed AS (
    UPDATE queue q
    SET state = 'sending', worker_id = $1, claim_epoch = q.claim_epoch + 1
    WHERE q.batch_id = ANY (ARRAY(SELECT batch_id FROM mine)) AND q.state = 'retrying'
    RETURNING q.*
), begun AS (
    INSERT INTO attempts (batch_id, n, worker_id, started_at)
    SELECT b.batch_id, coalesce((
            SELECT a.n FROM attempts a
            WHERE a.batch_id = b.batch_id AND {days of a.batch_id}
            ORDER BY a.n DESC LIMIT 1
        ), 0) + 1, $1, $2
    FROM (SELECT DISTINCT batch_id FROM claimed) AS b
)
SELECT
    q.delivery_id, q.state::text AS state, q.priority::text AS priority, q.app_id, q.due_at, q.expires_at, q.claim_epoch,
    q.batch_id, q.attempts, q.generation, q.crashes, q.pack_limit, q.is_rechecked, q.first_attempt_at,
    q.first_ambiguous_at
FROM claimed q
