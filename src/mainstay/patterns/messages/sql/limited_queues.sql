-- The queues that are limited or paused.
SELECT name, paused, concurrency, rate FROM mainstay.queue
