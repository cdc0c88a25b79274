-- Subscriptions that no worker has declared for :after seconds, and when each one was declared last.
SELECT subscriber, event, declared_at::text FROM mainstay.subscription
WHERE state <> 'retired' AND declared_at <= now() - make_interval(secs => :after::float8)
