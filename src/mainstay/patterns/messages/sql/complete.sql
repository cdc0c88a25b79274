-- These messages are done and nobody wants their results: delete them; the ids of those whose lease still stood.
DELETE FROM mainstay.message
USING unnest(:ids::bigint[], :leases::int[]) AS done (id, lease)
WHERE message.id = done.id AND message.lease = done.lease
  AND message.leased_by + 0 = :worker::bigint  -- by primary key, never through the index of leases: + 0
RETURNING message.id
