-- Retire a subscriber at once, by hand.
UPDATE mainstay.subscription SET state = 'retired', since = now()
WHERE state <> 'retired' AND subscriber = :subscriber::text
RETURNING subscriber, event
