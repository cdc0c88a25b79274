-- What waits for its time or its next attempt is due now.
UPDATE mainstay.message SET state = 'waiting', ready_at = now(), rank = now() - priority * interval '1 hour'
WHERE id = ANY (:ids::bigint[]) AND state = 'scheduled'
RETURNING id, pg_notify('mainstay_messages', queue)
