-- Put events on the table: for each one message for each of its subscribers, in the order given; their ids. An event that
-- nobody subscribes to is kept in a queue of its own until someone does, or its time has passed. A subscriber that is opening
-- gets what waits there; and as one that is open takes the event, so that it does not wait there, its copy at once.
INSERT INTO mainstay.message (kind, queue, payload, headers, key, key_limit, state, ready_at, rank, expires_at)
SELECT coalesce(subscriber, event),
       coalesce(queue, 'mainstay.unclaimed:' || event),
       payload::jsonb,
       headers::jsonb,
       coalesce(subscriber || ' ', '') || key,  -- a key is one subscriber's own
       CASE WHEN key IS NOT NULL THEN 1 END,
       'waiting', now(), now(),
       CASE WHEN subscriber IS NULL THEN now() + make_interval(secs => keep) END
FROM unnest(:events::text[], :payloads::text[], :headers::text[], :keys::text[], :keeps::float8[], :foreigners::boolean[])
     WITH ORDINALITY AS given (event, payload, headers, key, keep, from_outside, place)
LEFT JOIN LATERAL (
    SELECT DISTINCT subscriber, queue FROM mainstay.subscription
    WHERE subscription.event IN (given.event, '*') AND NOT (relay AND from_outside)
      AND (state = 'open' OR state = 'opening' AND EXISTS (
        SELECT FROM mainstay.subscription AS beside
        WHERE beside.event IN (given.event, '*') AND beside.state = 'open' AND NOT (beside.relay AND from_outside)))
) AS known ON true
ORDER BY place, subscriber
RETURNING id
