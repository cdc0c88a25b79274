-- This worker lives on; no row where it has been declared gone.
UPDATE mainstay.worker
SET alive_until = now() + make_interval(secs => :lease::float8), info = info || :info::text::jsonb
WHERE id = :worker::bigint
RETURNING id
