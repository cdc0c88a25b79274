-- What was scheduled and has come due is waiting now; which queues, and when the next one will be due in seconds.
WITH due AS (
    SELECT id FROM mainstay.message WHERE state = 'scheduled' AND ready_at <= now()
    ORDER BY ready_at LIMIT :most::int FOR UPDATE SKIP LOCKED
), staged AS (
    UPDATE mainstay.message SET state = 'waiting' FROM due WHERE message.id = due.id
    RETURNING queue
)
SELECT (SELECT array_agg(DISTINCT queue) FROM staged),
       (SELECT pg_notify('mainstay_messages', queue) FROM staged LIMIT 1),
       extract(epoch FROM (SELECT min(ready_at) FROM mainstay.message WHERE state = 'scheduled' AND ready_at > now()) - now())::float8
