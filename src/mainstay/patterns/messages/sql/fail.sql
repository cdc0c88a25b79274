-- These attempts failed: wait for the next one, or, where :delays has null, give the message up as dead.
-- What someone wants cancelled is not tried again: cancelled, and kept for :keep seconds.
UPDATE mainstay.message
SET state = CASE WHEN failed.delay IS NULL THEN 'dead' WHEN cancel_requested THEN 'cancelled' ELSE 'scheduled'
        END::mainstay.message_state,
    leased_by = NULL, key_slot = NULL,
    errors = CASE WHEN jsonb_array_length(errors) < 100 THEN errors ELSE errors - 1 END || failed.error::jsonb,
    ready_at = now() + make_interval(secs => coalesce(failed.delay, 0)),
    rank = now() + make_interval(secs => coalesce(failed.delay, 0)) - priority * interval '1 hour',
    ended_at = CASE WHEN failed.delay IS NULL OR cancel_requested THEN now() END,
    keep_until = CASE WHEN failed.delay IS NOT NULL AND cancel_requested
        THEN greatest(now() + make_interval(secs => :keep::float8), unique_until) END,
    unique_key = CASE WHEN (failed.delay IS NOT NULL AND NOT cancel_requested) OR unique_until > now() THEN unique_key END,
    cancel_requested = false
FROM unnest(:ids::bigint[], :leases::int[], :errors::text[], :delays::float8[]) AS failed (id, lease, error, delay)
WHERE message.id = failed.id AND message.lease = failed.lease
  AND message.leased_by + 0 = :worker::bigint  -- by primary key, never through the index of leases: + 0
RETURNING message.id
