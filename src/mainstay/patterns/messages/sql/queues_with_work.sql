-- Which queues have something waiting: one index probe each, however many messages there are.
WITH RECURSIVE found (queue) AS (
    (SELECT queue FROM mainstay.message WHERE state = 'waiting' ORDER BY queue LIMIT 1)
    UNION ALL
    SELECT (SELECT message.queue FROM mainstay.message
            WHERE state = 'waiting' AND message.queue > found.queue ORDER BY message.queue LIMIT 1)
    FROM found WHERE found.queue IS NOT NULL
)
SELECT queue FROM found WHERE queue IS NOT NULL
