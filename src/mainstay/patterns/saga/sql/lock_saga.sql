-- Lock a saga until the transaction ends. Read it by the next statement: after a wait, this one still sees the steps as they
-- were before it.
SELECT id FROM mainstay.saga WHERE id = :id::bigint FOR UPDATE
