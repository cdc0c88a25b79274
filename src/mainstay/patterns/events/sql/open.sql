-- Open the subscriptions to these events, if no publisher stands in the way; whether it was done, and which queues got
-- something.
SELECT opened, queues FROM mainstay.open_subscriptions(:events::text[])
