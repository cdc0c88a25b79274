-- Retire a subscription, if nobody has declared it since.
UPDATE mainstay.subscription SET state = 'retired', since = now()
WHERE subscriber = :subscriber::text AND event = :event::text AND state <> 'retired'
  AND declared_at = :declared_at::text::timestamptz
RETURNING subscriber
