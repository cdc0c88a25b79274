-- This worker's code has these subscriptions; which of them are still opening. The first one of an event begins as
-- opening, so that what was published before comes first; a further one is open at once. Where its queue is another
-- one now, what waits in the old one is moved.
WITH given AS MATERIALIZED (
    SELECT DISTINCT subscriber, event, queue, relay
    FROM unnest(:subscribers::text[], :events::text[], :queues::text[], :relays::boolean[]) AS given (subscriber, event, queue, relay)
), moved AS (
    UPDATE mainstay.message SET queue = given.queue
    FROM given JOIN mainstay.subscription AS old USING (subscriber, event)
    WHERE old.queue <> given.queue AND message.queue = old.queue AND message.kind = given.subscriber
      AND message.state IN ('waiting', 'scheduled', 'blocked')
)
INSERT INTO mainstay.subscription AS known (subscriber, event, queue, relay, state)
SELECT subscriber, event, queue, relay,
       CASE WHEN EXISTS (
           SELECT FROM mainstay.subscription AS beside
           WHERE beside.event IN (given.event, '*') AND beside.state = 'open'
             AND (beside.event = '*' OR given.event <> '*') AND (given.relay OR NOT beside.relay)
       ) THEN 'open' ELSE 'opening' END::mainstay.subscription_state
FROM given
ORDER BY subscriber, event
ON CONFLICT (subscriber, event) DO UPDATE
SET queue = excluded.queue, relay = excluded.relay, declared_at = now(),
    since = CASE WHEN known.state = 'retired' THEN now() ELSE known.since END,
    state = CASE WHEN known.state = 'retired' THEN excluded.state ELSE known.state END
RETURNING subscriber, event, state = 'opening'
