-- So many messages of a locked queue have been started.
UPDATE mainstay.queue
SET next_start = greatest(next_start, now()) + make_interval(secs => :started::int / rate)
WHERE name = :queue::text AND rate IS NOT NULL
