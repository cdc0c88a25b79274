-- Lease up to :most due messages of these kinds from these queues, taking the queues in the order given.
--
-- A worker that has been declared gone gets nothing; a limited queue gives nothing unless the caller holds its row locked. Of a message with a key: it is leased into a free slot of its key
-- (with a limit of one, only if no earlier one of the key is unfinished), else parked as blocked, so that the next
-- lease does not meet it again. Parking is safe only while what blocks it cannot end unnoticed, so those rows are locked;
-- where one is just ending, the message stays waiting and the next lease decides.
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
        SELECT id, queue, key, key_limit FROM mainstay.message
        WHERE state = 'waiting' AND queue = served.name AND kind = ANY (:kinds::text[])
        ORDER BY rank, id LIMIT :most::int FOR UPDATE SKIP LOCKED
    ) AS message
    WHERE EXISTS (SELECT FROM me)
    LIMIT :most::int
), contender AS MATERIALIZED (
    SELECT id, queue, key, key_limit, row_number() OVER (PARTITION BY queue, key ORDER BY id) AS place
    FROM due WHERE key IS NOT NULL
), admitted AS MATERIALIZED (
    SELECT contender.id, free.slot
    FROM contender CROSS JOIN LATERAL (
        SELECT slot, row_number() OVER (ORDER BY slot) AS place
        FROM generate_series(1, contender.key_limit) AS slot
        WHERE NOT EXISTS (
            SELECT FROM mainstay.message AS busy
            WHERE busy.queue = contender.queue AND busy.key = contender.key AND busy.key_slot = slot)
    ) AS free
    WHERE free.place = contender.place
      AND (contender.key_limit > 1 OR NOT EXISTS (
            SELECT FROM mainstay.message AS earlier
            WHERE earlier.queue = contender.queue AND earlier.key = contender.key
              AND earlier.ended_at IS NULL AND earlier.id < contender.id))
), parked AS (
    UPDATE mainstay.message SET state = 'blocked'
    FROM (
        SELECT contender.id
        FROM contender
        CROSS JOIN LATERAL (
            SELECT (
                SELECT count(*) FROM (
                    SELECT FROM mainstay.message AS holder
                    WHERE holder.queue = contender.queue AND holder.key = contender.key
                      AND holder.key_slot IS NOT NULL
                    FOR SHARE SKIP LOCKED) AS held
            ) + (
                SELECT count(*) FROM (
                    SELECT FROM mainstay.message AS earlier
                    WHERE earlier.queue = contender.queue AND earlier.key = contender.key
                      AND earlier.ended_at IS NULL AND earlier.id < contender.id AND contender.key_limit = 1
                    LIMIT 1 FOR SHARE SKIP LOCKED) AS unfinished
            ) AS locked
        ) AS blocking
        WHERE contender.id NOT IN (SELECT id FROM admitted)
          AND (contender.place > contender.key_limit OR blocking.locked >= contender.key_limit)
    ) AS late
    WHERE message.id = late.id
    RETURNING message.id, message.queue
), leased AS (
UPDATE mainstay.message
SET state = 'running', leased_by = :worker::bigint, lease = lease + 1, attempts = attempts + 1,
    key_slot = admitted.slot, progress = NULL
FROM due LEFT JOIN admitted USING (id)
WHERE message.id = due.id AND (due.key IS NULL OR admitted.slot IS NOT NULL)
RETURNING message.id, message.lease, message.attempts, message.queue, message.kind, message.payload::text, message.headers::text,
    message.key, message.published_at, message.expires_at <= now(), message.unique_until IS NOT NULL
)
SELECT * FROM leased
UNION ALL  -- what was parked shows that its queue has been looked at and may hold more: lease 0
SELECT id, 0, 0, queue, '', '', NULL, NULL, now(), NULL, false FROM parked
