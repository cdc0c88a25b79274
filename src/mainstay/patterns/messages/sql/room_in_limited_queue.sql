-- How many messages of a locked queue may start now, by its concurrency and its rate, and in how many seconds the next one
-- may where it is none because of the rate. Only live leases count. Rate: the generic cell rate algorithm (ITU-T I.371).
SELECT greatest(0, least(
        :most::int,
        concurrency - (
            SELECT count(*) FROM mainstay.message JOIN mainstay.worker ON worker.id = message.leased_by
            WHERE message.queue = limited.name AND message.state = 'running' AND worker.alive_until > now()),
        floor(burst - extract(epoch FROM greatest(next_start, now()) - now()) * rate)
    ))::int,
    extract(epoch FROM greatest(next_start, now()) - now())::float8 - (burst - 1) / rate
FROM mainstay.queue AS limited WHERE name = :queue::text
