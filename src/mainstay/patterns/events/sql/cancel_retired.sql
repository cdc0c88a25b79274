-- Call off what waits for retired subscriptions, with the reason; how many. It can be redriven for as long as it is kept.
-- Publishers that had not heard of the retirement may add to it for a while.
WITH late AS MATERIALIZED (
    SELECT message.id, gone.since
    FROM mainstay.subscription AS gone CROSS JOIN LATERAL (
        SELECT * FROM (
            SELECT id, headers FROM mainstay.message
            WHERE state = 'waiting' AND queue = gone.queue AND kind = gone.subscriber
            LIMIT :most::int FOR UPDATE SKIP LOCKED) AS waiting
        UNION ALL
        SELECT * FROM (
            SELECT id, headers FROM mainstay.message
            WHERE state = 'blocked' AND queue = gone.queue AND kind = gone.subscriber
            LIMIT :most::int FOR UPDATE SKIP LOCKED) AS blocked
    ) AS message
    WHERE gone.state = 'retired' AND gone.since > now() - interval '1 day'
      AND message.headers ->> 'event' = CASE gone.event WHEN '*' THEN message.headers ->> 'event' ELSE gone.event END
      AND NOT EXISTS (
        SELECT FROM mainstay.subscription AS other
        WHERE other.subscriber = gone.subscriber AND other.state <> 'retired'
          AND other.event IN (message.headers ->> 'event', '*'))
), cancelled AS (
    UPDATE mainstay.message
    SET state = 'cancelled', ended_at = now(), keep_until = now() + interval '30 days',
        errors = errors || jsonb_build_object(
            'attempt', attempts, 'at', now(), 'error', 'its subscriber was retired at ' || late.since)
    FROM late WHERE message.id = late.id
    RETURNING 1
)
SELECT count(*) FROM cancelled
