-- All that is known of one saga, as JSON: its steps in order, the errors of the step at work, and who holds its lock.
SELECT (to_jsonb(saga) || jsonb_build_object(
    'steps', (SELECT jsonb_agg(to_jsonb(planned) - 'saga' ORDER BY position) FROM mainstay.saga_step AS planned WHERE planned.saga = saga.id),
    'errors', coalesce((SELECT errors FROM mainstay.message WHERE message.id = saga.message), '[]'),
    'waits_for', CASE WHEN saga.state = 'waiting' THEN (
        SELECT jsonb_agg(id ORDER BY id) FROM mainstay.saga AS other
        WHERE other.lock = saga.lock AND other.ended_at IS NULL AND (other.state <> 'waiting' OR other.id < saga.id)) END))::text
FROM mainstay.saga_status AS saga WHERE id = :id::bigint
