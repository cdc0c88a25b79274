-- This worker's code still has these subscriptions. One that has been retired by hand stays so until a worker starts. What
-- somebody else is at this moment declaring or retiring is left to them, so that no two wait for each other in a circle.
WITH mine AS MATERIALIZED (
    SELECT subscriber, event FROM mainstay.subscription
    JOIN unnest(:subscribers::text[], :events::text[]) AS given (subscriber, event) USING (subscriber, event)
    WHERE state <> 'retired' AND declared_at < now() - interval '20 seconds'
    FOR UPDATE OF subscription SKIP LOCKED
)
UPDATE mainstay.subscription SET declared_at = now()
FROM mine WHERE subscription.subscriber = mine.subscriber AND subscription.event = mine.event
