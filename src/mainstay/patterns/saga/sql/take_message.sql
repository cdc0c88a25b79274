-- Take the message of a locked saga away from the workers, unless one of them has it.
DELETE FROM mainstay.message WHERE id = (
    SELECT id FROM mainstay.message WHERE unique_key = 'mainstay.saga:' || :id::bigint AND state <> 'running'
    FOR UPDATE SKIP LOCKED)
RETURNING id
