-- This worker's code declares these schedules. A definition seen for the first time gets the next number.
WITH known AS (
    INSERT INTO mainstay.schedule_definition (schedule, digest, definition)
    SELECT schedule, digest, definition::jsonb
    FROM unnest(:schedules::text[], :digests::text[], :definitions::text[]) AS given (schedule, digest, definition)
    ORDER BY schedule
    ON CONFLICT (schedule, digest) DO UPDATE SET digest = excluded.digest  -- so that its id is returned
    RETURNING id
)
INSERT INTO mainstay.schedule_declaration (worker, definition)
SELECT :worker::bigint, id FROM known
ON CONFLICT DO NOTHING
