-- Something that these messages need is away: they wait :delays seconds, the attempt does not count, and people see why.
-- What someone wants cancelled does not wait: cancelled, and kept for :keep seconds.
UPDATE mainstay.message
SET state = CASE WHEN cancel_requested THEN 'cancelled' ELSE 'scheduled' END::mainstay.message_state,
    leased_by = NULL, key_slot = NULL, attempts = attempts - 1,
    progress = jsonb_build_object('postponed', given.reason, 'at', now()),
    ready_at = now() + make_interval(secs => given.delay),
    rank = now() + make_interval(secs => given.delay) - priority * interval '1 hour',
    ended_at = CASE WHEN cancel_requested THEN now() END,
    keep_until = CASE WHEN cancel_requested THEN greatest(now() + make_interval(secs => :keep::float8), unique_until) END,
    unique_key = CASE WHEN NOT cancel_requested OR unique_until > now() THEN unique_key END,
    cancel_requested = false
FROM unnest(:ids::bigint[], :leases::int[], :reasons::text[], :delays::float8[]) AS given (id, lease, reason, delay)
WHERE message.id = given.id AND message.lease = given.lease
  AND message.leased_by + 0 = :worker::bigint  -- by primary key, never through the index of leases: + 0
RETURNING message.id
