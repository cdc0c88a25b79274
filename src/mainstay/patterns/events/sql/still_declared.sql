-- This worker's code still has these subscriptions. One that has been retired by hand stays so until a worker starts.
UPDATE mainstay.subscription SET declared_at = now()
FROM unnest(:subscribers::text[], :events::text[]) AS mine (subscriber, event)
WHERE subscription.subscriber = mine.subscriber AND subscription.event = mine.event
  AND state <> 'retired' AND declared_at < now() - interval '20 seconds'
