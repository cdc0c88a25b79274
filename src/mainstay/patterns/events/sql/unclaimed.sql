-- The events that wait unclaimed and have subscribers by now.
SELECT unclaimed.event FROM mainstay.unclaimed_events() AS unclaimed (event)
WHERE EXISTS (
    SELECT FROM mainstay.subscription WHERE subscription.event IN (unclaimed.event, '*') AND state <> 'retired')
