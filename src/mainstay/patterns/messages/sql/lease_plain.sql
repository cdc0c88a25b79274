-- As lease, of queues in which no message with a key has been met; lighter, above all where one message waits. One with a
-- key is not leased but shown, with lease 0, so that the worker asks this queue by the other statement from then on.
WITH me AS MATERIALIZED (
    SELECT id FROM mainstay.worker WHERE id = :worker::bigint FOR KEY SHARE
), served AS MATERIALIZED (
    SELECT name
    FROM unnest(:queues::text[]) WITH ORDINALITY AS given (name, place)
    WHERE NOT EXISTS (
        SELECT FROM mainstay.queue
        WHERE queue.name = given.name
          AND (paused OR (NOT :locked::boolean AND (concurrency IS NOT NULL OR rate IS NOT NULL))))
    ORDER BY place
), due AS MATERIALIZED (
    SELECT message.*
    FROM served CROSS JOIN LATERAL (
        SELECT id, queue, key FROM mainstay.message
        WHERE state = 'waiting' AND queue = served.name AND kind = ANY (:kinds::text[])
        ORDER BY rank, id LIMIT :most::int FOR UPDATE SKIP LOCKED
    ) AS message
    WHERE EXISTS (SELECT FROM me)
    LIMIT :most::int
), leased AS (
UPDATE mainstay.message
SET state = 'running', leased_by = :worker::bigint, lease = lease + 1, attempts = attempts + 1, progress = NULL
FROM due WHERE message.id = due.id AND due.key IS NULL
RETURNING message.id, message.lease, message.attempts, message.queue, message.kind, message.payload::text, message.headers::text,
    message.key, message.published_at, message.expires_at <= now(), message.unique_until IS NOT NULL
)
SELECT * FROM leased
UNION ALL
SELECT id, 0, 0, queue, '', '', NULL, key, now(), NULL, false FROM due WHERE key IS NOT NULL
