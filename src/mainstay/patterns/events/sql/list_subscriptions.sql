-- All subscriptions, with how many of each one's messages wait (up to 10000) and how many are dead.
SELECT subscriber, event, queue, relay, state::text, since, declared_at, (
    SELECT count(*) FROM (
        SELECT FROM mainstay.message
        WHERE state = 'waiting' AND message.queue = subscription.queue AND kind = subscriber LIMIT 10000) AS counted),
    (SELECT count(*) FROM mainstay.message WHERE state = 'dead' AND kind = subscriber)
FROM mainstay.subscription ORDER BY subscriber, event
