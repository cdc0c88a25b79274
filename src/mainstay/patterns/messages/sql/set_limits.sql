-- Limit a queue over all workers, or (with nulls) set it free.
INSERT INTO mainstay.queue (name, concurrency, rate, burst)
VALUES (:queue::text, :concurrency::int, :rate::float8, :burst::int)
ON CONFLICT (name) DO UPDATE SET concurrency = excluded.concurrency, rate = excluded.rate, burst = excluded.burst
RETURNING name, pg_notify('mainstay_control', 'queues')
