-- The saga whose turn has come at a lock: no earlier one with it is unfinished.
WITH turn AS (
    SELECT id FROM mainstay.saga AS next
    WHERE state = 'waiting' AND lock = :lock::text
      AND NOT EXISTS (
        SELECT FROM mainstay.saga AS other
        WHERE other.lock = next.lock AND other.ended_at IS NULL AND (other.state <> 'waiting' OR other.id < next.id))
    FOR UPDATE SKIP LOCKED
), begun AS (
    UPDATE mainstay.saga
    SET state = 'running', version = version + 1, changed_at = now(),
        step = (SELECT name FROM mainstay.saga_step AS planned WHERE planned.saga = saga.id AND planned.state = 'pending'
                ORDER BY position LIMIT 1)
    FROM turn WHERE saga.id = turn.id AND saga.state = 'waiting'
    RETURNING saga.id, saga.kind, saga.step, saga.queue, saga.version
)
INSERT INTO mainstay.message (kind, queue, payload, unique_key, state, ready_at, rank)
SELECT format('saga/%s/%s', kind, step), queue, jsonb_build_object('saga', id, 'version', version), 'mainstay.saga:' || id,
       'waiting', now(), now()
FROM begun
RETURNING queue
