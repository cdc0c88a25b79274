-- A job as it is now.
SELECT kind, state::text, attempts, progress::text, result::text, errors::text
FROM mainstay.message WHERE id = :id::bigint
