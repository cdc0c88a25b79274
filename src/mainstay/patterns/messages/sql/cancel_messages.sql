-- Call these off. What runs is asked to stop: its worker cancels the handler, unless it is done before.
UPDATE mainstay.message
SET state = CASE WHEN state = 'running' THEN state ELSE 'cancelled' END,
    cancel_requested = (state = 'running'),
    ended_at = CASE WHEN state <> 'running' THEN now() END,
    keep_until = CASE WHEN state <> 'running' THEN greatest(now() + make_interval(secs => :keep::float8), unique_until) END,
    unique_key = CASE WHEN state = 'running' OR unique_until > now() THEN unique_key END
FROM (SELECT pg_notify('mainstay_control', 'cancel')) AS told
WHERE id = ANY (:ids::bigint[]) AND ended_at IS NULL
RETURNING id, state::text
