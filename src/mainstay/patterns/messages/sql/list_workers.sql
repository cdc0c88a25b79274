-- The workers, and for how many seconds each is still alive without a further sign of life.
SELECT id, name, started_at, extract(epoch FROM alive_until - now())::float8, idle, info::text FROM mainstay.worker ORDER BY id
