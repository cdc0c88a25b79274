-- Workers whose time has passed are gone: their messages are due again, the attempt counts, and the loss is on record.
WITH late AS MATERIALIZED (
    SELECT id, name FROM mainstay.worker
    WHERE alive_until < now() AND id IS DISTINCT FROM :worker::bigint  -- who asks is alive, however late it is
    FOR UPDATE SKIP LOCKED
), orphan AS MATERIALIZED (
    SELECT message.id, late.id AS worker, late.name
    FROM late JOIN mainstay.message ON message.leased_by = late.id AND message.state = 'running'
    FOR UPDATE OF message SKIP LOCKED
), gone AS (
    -- A worker one of whose messages is locked (its completion is on its way) stays until the next look.
    DELETE FROM mainstay.worker USING late
    WHERE worker.id = late.id AND (SELECT count(*) FROM orphan WHERE orphan.worker = late.id)
        = (SELECT count(*) FROM mainstay.message WHERE leased_by = late.id AND state = 'running')
)
UPDATE mainstay.message
SET state = 'waiting', leased_by = NULL, key_slot = NULL,
    errors = CASE WHEN jsonb_array_length(errors) < 100 THEN errors ELSE errors - 1 END || jsonb_build_object(
        'attempt', attempts, 'at', now(), 'error', 'its worker ' || orphan.name || ' went away')
FROM orphan WHERE message.id = orphan.id
RETURNING message.id, message.queue, message.kind, orphan.name, pg_notify('mainstay_messages', message.queue)
