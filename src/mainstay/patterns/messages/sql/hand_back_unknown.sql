-- What this worker has leased and does not know of, for the answer got lost on its way: others may take it at once, and the
-- attempt does not count. :ids and :leases are what it knows of.
UPDATE mainstay.message
SET state = 'waiting', leased_by = NULL, key_slot = NULL, attempts = attempts - 1
WHERE leased_by = :worker::bigint AND state = 'running'
  AND (id, lease) NOT IN (SELECT * FROM unnest(:ids::bigint[], :leases::int[]))
RETURNING id, queue, pg_notify('mainstay_messages', queue)
