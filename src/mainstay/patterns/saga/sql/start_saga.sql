-- Start a saga: its row, its plan and the message of its first step, in the caller's own transaction; its id. No row where
-- its key is taken; or where another one takes its lock this moment: then ask again with :queued, and it waits its turn.
WITH started AS (
    INSERT INTO mainstay.saga (kind, key, lock, queue, state, step, data, deadline, keep)
    SELECT :kind::text, :key::text, :lock::text, :queue::text, state,
           CASE state WHEN 'running' THEN :first::text END, :data::text::jsonb,
           now() + make_interval(secs => :timeout::float8), make_interval(secs => :keep::float8)
    FROM (SELECT CASE WHEN :queued::boolean OR EXISTS (
                     SELECT FROM mainstay.saga WHERE lock = :lock::text AND ended_at IS NULL)
                 THEN 'waiting' ELSE 'running' END::mainstay.saga_state AS state) AS turn
    ON CONFLICT DO NOTHING
    RETURNING id, state, kind, step, queue
), planned AS (
    INSERT INTO mainstay.saga_step (saga, position, name, state, done_at, pivot, undoable, patience, undo_patience)
    SELECT started.id, plan.position, plan.name, plan.state::mainstay.saga_step_state,
           CASE plan.state WHEN 'done' THEN now() END, plan.pivot, plan.undo_patience IS NOT NULL, plan.patience, plan.undo_patience
    FROM started, unnest(:names::text[], :states::text[], :pivots::boolean[], :patiences::int[], :undo_patiences::int[])
         WITH ORDINALITY AS plan (name, state, pivot, patience, undo_patience, position)
), first AS (
    INSERT INTO mainstay.message (kind, queue, payload, unique_key, state, ready_at, rank)
    SELECT format('saga/%s/%s', kind, step), queue, jsonb_build_object('saga', id, 'version', 1), 'mainstay.saga:' || id,
           'waiting', now(), now()
    FROM started WHERE state = 'running'
)
SELECT id FROM started
