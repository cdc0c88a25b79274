-- What nobody began before it expired has ended.
UPDATE mainstay.message
SET state = 'expired', ended_at = now(), keep_until = greatest(now() + make_interval(secs => :keep::float8), unique_until),
    unique_key = CASE WHEN unique_until > now() THEN unique_key END
WHERE id IN (
    SELECT id FROM mainstay.message
    WHERE expires_at <= now() AND ended_at IS NULL AND state <> 'running'
    LIMIT :most::int FOR UPDATE SKIP LOCKED)
RETURNING id
