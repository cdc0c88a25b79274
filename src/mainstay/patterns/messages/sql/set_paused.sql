-- Pause a queue, or let it go on. What runs goes on; nothing more is begun.
INSERT INTO mainstay.queue (name, paused) VALUES (:queue::text, :paused::boolean)
ON CONFLICT (name) DO UPDATE SET paused = excluded.paused
RETURNING name, pg_notify('mainstay_control', 'queues')
