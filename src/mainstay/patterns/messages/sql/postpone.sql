-- Something that these messages need is away: they wait :delays seconds, the attempt does not count, and people see why.
UPDATE mainstay.message
SET state = 'scheduled', leased_by = NULL, key_slot = NULL, attempts = attempts - 1,
    progress = jsonb_build_object('postponed', given.reason, 'at', now()),
    ready_at = now() + make_interval(secs => given.delay),
    rank = now() + make_interval(secs => given.delay) - priority * interval '1 hour',
    cancel_requested = false
FROM unnest(:ids::bigint[], :leases::int[], :reasons::text[], :delays::float8[]) AS given (id, lease, reason, delay)
WHERE message.id = given.id AND message.lease = given.lease
  AND message.leased_by + 0 = :worker::bigint  -- by primary key, never through the index of leases: + 0
RETURNING message.id
