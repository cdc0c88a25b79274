-- What was scheduled and has come due is waiting now; which queues, how many were told of to workers that sleep, and when
-- the next one will be due in seconds.
WITH due AS (
    SELECT id FROM mainstay.message WHERE state = 'scheduled' AND ready_at <= now()
    ORDER BY ready_at LIMIT :most::int FOR UPDATE SKIP LOCKED
), staged AS (
    UPDATE mainstay.message SET state = 'waiting' FROM due WHERE message.id = due.id
    RETURNING queue
)
SELECT (SELECT array_agg(DISTINCT queue) FROM staged),
       (SELECT count(pg_notify('mainstay_messages', queue)) FROM (SELECT DISTINCT queue FROM staged) AS each),
       extract(epoch FROM (SELECT min(ready_at) FROM mainstay.message WHERE state = 'scheduled' AND ready_at > now()) - now())::float8
