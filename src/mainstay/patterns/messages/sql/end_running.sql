-- These running messages end without success: cancelled on request, or expired before they were begun.
UPDATE mainstay.message
SET state = ended.state::mainstay.message_state, leased_by = NULL, key_slot = NULL, ended_at = now(),
    keep_until = greatest(now() + make_interval(secs => :keep::float8), unique_until),
    unique_key = CASE WHEN unique_until > now() THEN unique_key END
FROM unnest(:ids::bigint[], :leases::int[], :states::text[]) AS ended (id, lease, state)
WHERE message.id = ended.id AND message.lease = ended.lease
  AND message.leased_by + 0 = :worker::bigint  -- by primary key, never through the index of leases: + 0
RETURNING message.id
