-- The message of a saga.
SELECT id, state::text FROM mainstay.message WHERE unique_key = 'mainstay.saga:' || :id::bigint
