-- How far a running message has come; no row where its lease has gone to another.
UPDATE mainstay.message SET progress = :progress::text::jsonb
WHERE id = :id::bigint AND lease = :lease::int AND leased_by = :worker::bigint AND state = 'running'
RETURNING id
