-- Hand unclaimed messages of these events over to their subscribers, a batch of each; whether there may be more, and which
-- queues got some.
SELECT more, queues FROM mainstay.hand_over_events(:events::text[], :most::int)
