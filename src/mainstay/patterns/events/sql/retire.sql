-- Retire what no worker has declared for :after seconds, of one subscriber or (null) of all.
UPDATE mainstay.subscription SET state = 'retired', since = now()
WHERE state <> 'retired' AND declared_at <= now() - make_interval(secs => :after::float8)
  AND subscriber = coalesce(:subscriber::text, subscriber)
RETURNING subscriber, event
