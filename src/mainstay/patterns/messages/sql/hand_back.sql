-- Not done, and for no fault of theirs: others may take these messages at once, and the attempt does not count.
UPDATE mainstay.message
SET state = 'waiting', leased_by = NULL, key_slot = NULL, attempts = attempts - 1
FROM unnest(:ids::bigint[], :leases::int[]) AS given (id, lease)
WHERE message.id = given.id AND message.lease = given.lease
  AND message.leased_by + 0 = :worker::bigint  -- by primary key, never through the index of leases: + 0
RETURNING message.id, pg_notify('mainstay_messages', message.queue)
