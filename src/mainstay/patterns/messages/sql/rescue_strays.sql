-- The safety net under workers that took their leave: a running message whose worker is not there at all is due again.
WITH RECURSIVE holder (id) AS (
    (SELECT leased_by FROM mainstay.message WHERE state = 'running' ORDER BY leased_by LIMIT 1)
    UNION ALL
    SELECT (SELECT leased_by FROM mainstay.message
            WHERE state = 'running' AND leased_by > holder.id ORDER BY leased_by LIMIT 1)
    FROM holder WHERE holder.id IS NOT NULL
), stray AS (
    SELECT message.id FROM holder JOIN mainstay.message ON message.leased_by = holder.id AND state = 'running'
    WHERE NOT EXISTS (SELECT FROM mainstay.worker WHERE worker.id = holder.id)
    FOR UPDATE OF message SKIP LOCKED
)
UPDATE mainstay.message
SET state = 'waiting', leased_by = NULL, key_slot = NULL
FROM stray WHERE message.id = stray.id
RETURNING message.id, pg_notify('mainstay_messages', message.queue)
