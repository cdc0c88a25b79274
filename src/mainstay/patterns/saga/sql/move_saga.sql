-- Move a locked saga on: what became of a step, where the saga stands now, and the message of what is to be done next.
WITH changed AS (
    UPDATE mainstay.saga_step
    SET state = :outcome::text::mainstay.saga_step_state,
        done_at = CASE WHEN :outcome::text = 'done' THEN now() ELSE done_at END,
        undone_at = CASE WHEN :outcome::text = 'undone' THEN now() ELSE undone_at END,
        error = coalesce(:step_error::text, error)
    WHERE saga = :id::bigint AND name = :changed::text
), next AS (
    INSERT INTO mainstay.message (kind, queue, payload, unique_key, state, ready_at, rank)
    SELECT :message::text, queue, jsonb_build_object('saga', id, 'version', version + 1), 'mainstay.saga:' || id,
           'waiting', now(), now()
    FROM mainstay.saga WHERE id = :id::bigint AND :message::text IS NOT NULL
)
UPDATE mainstay.saga
SET state = :state::text::mainstay.saga_state, step = :step::text, version = version + 1, changed_at = now(),
    data = data || coalesce(:data::text::jsonb, '{}'), error = coalesce(:error::text, error),
    requested = CASE WHEN :settled::boolean THEN NULL ELSE requested END,
    because = CASE WHEN :settled::boolean THEN NULL ELSE because END,
    ended_at = CASE WHEN :step::text IS NULL THEN now() END,
    keep_until = CASE WHEN :step::text IS NULL THEN now() + keep END
WHERE id = :id::bigint
