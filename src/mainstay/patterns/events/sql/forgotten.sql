-- Subscriptions that no worker has declared for :after seconds: for how many seconds, and how many messages wait (up to 10000).
SELECT subscriber, event, extract(epoch FROM now() - declared_at)::float8, (
    SELECT count(*) FROM (
        SELECT FROM mainstay.message
        WHERE state = 'waiting' AND message.queue = subscription.queue AND kind = subscriber LIMIT 10000) AS counted)
FROM mainstay.subscription
WHERE state <> 'retired' AND declared_at < now() - make_interval(secs => :after::float8)
