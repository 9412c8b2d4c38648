-- A message is claimed as a whole, and only if a recall was requested for every one of its deliveries: the advisory
-- lock keeps two replicas from sharing it.
WITH candidates AS (
    SELECT DISTINCT c.provider_message_id
    FROM (
        SELECT h.provider_message_id
        FROM scheduled_messages h
        WHERE h.next_try_at <= $1 AND h.provider_message_id IS NOT NULL AND h.app_id <> ALL ($2::uuid[])
          AND NOT EXISTS (
            SELECT 1 FROM scheduled_messages o
            WHERE o.provider_message_id = h.provider_message_id AND (o.next_try_at IS NULL OR o.next_try_at > $1)
          )
        ORDER BY h.next_try_at
        LIMIT $3 * 50
    ) AS c
    LIMIT $3
), mine AS (
    SELECT provider_message_id
    FROM candidates
    WHERE pg_try_advisory_xact_lock(hashtextextended(provider_message_id, 0))
)
UPDATE scheduled_messages h
SET next_try_at = $4, tries = h.tries + 1
FROM mine
WHERE h.provider_message_id = mine.provider_message_id AND h.next_try_at <= $1
RETURNING h.provider_message_id, h.app_id, h.delivery_id, h.tries
