-- What is in each queue: messages by state, and for how many seconds the oldest due one has been waiting.
SELECT coalesce(counted.queue, limited.name), counted.states::text, counted.oldest::float8,
       coalesce(limited.paused, false), limited.concurrency, limited.rate, limited.burst
FROM (
    SELECT queue, jsonb_object_agg(state, number) AS states, max(oldest) AS oldest
    FROM (SELECT queue, state, count(*) AS number,
                 extract(epoch FROM now() - min(ready_at) FILTER (WHERE state = 'waiting')) AS oldest
          FROM mainstay.message GROUP BY queue, state) AS each
    GROUP BY queue
) AS counted
FULL JOIN mainstay.queue AS limited ON limited.name = counted.queue
ORDER BY 1
