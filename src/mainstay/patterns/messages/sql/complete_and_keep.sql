-- These messages are done; keep them with their results for so many seconds, and as long as their unique key holds.
UPDATE mainstay.message
SET state = 'succeeded', leased_by = NULL, key_slot = NULL, ended_at = now(), result = done.result::jsonb,
    keep_until = greatest(now() + make_interval(secs => done.keep), unique_until),
    unique_key = CASE WHEN unique_until > now() THEN unique_key END
FROM unnest(:ids::bigint[], :leases::int[], :results::text[], :keeps::float8[]) AS done (id, lease, result, keep)
WHERE message.id = done.id AND message.lease = done.lease
  AND message.leased_by + 0 = :worker::bigint  -- by primary key, never through the index of leases: + 0
RETURNING message.id
