-- The safety net under the trigger unblock_key: keys with a blocked message, a free slot and nothing that will free
-- another (a completion in a REPEATABLE READ transaction cannot see what was blocked after it began).
WITH RECURSIVE blocked_key (queue, key) AS (
    (SELECT queue, key FROM mainstay.message WHERE state = 'blocked' ORDER BY queue, key LIMIT 1)
    UNION ALL
    SELECT next.queue, next.key FROM blocked_key CROSS JOIN LATERAL (
        SELECT message.queue, message.key FROM mainstay.message
        WHERE state = 'blocked' AND (message.queue, message.key) > (blocked_key.queue, blocked_key.key)
        ORDER BY message.queue, message.key LIMIT 1) AS next
), first AS (
    SELECT head.* FROM (SELECT * FROM blocked_key LIMIT :most::int) AS blocked_key
    CROSS JOIN LATERAL (
        SELECT id, queue, key, key_limit FROM mainstay.message
        WHERE state = 'blocked' AND message.queue = blocked_key.queue AND message.key = blocked_key.key
        ORDER BY id LIMIT 1) AS head
)
UPDATE mainstay.message SET state = 'waiting'
WHERE state = 'blocked' AND id IN (
    SELECT first.id FROM first
    WHERE CASE WHEN first.key_limit = 1
        THEN NOT EXISTS (
            SELECT FROM mainstay.message AS earlier
            WHERE earlier.queue = first.queue AND earlier.key = first.key AND earlier.ended_at IS NULL
              AND (earlier.id < first.id OR earlier.state IN ('running', 'waiting')))
        ELSE (
            SELECT count(*) FROM mainstay.message AS busy
            WHERE busy.queue = first.queue AND busy.key = first.key AND busy.ended_at IS NULL
              AND busy.state IN ('running', 'waiting')) < first.key_limit
        END)
RETURNING id, pg_notify('mainstay_messages', queue)
