-- Publish the jobs of these ticks and move the schedule on, if its next tick is still the one that was seen; how many
-- jobs were published. No row: another worker has done it, or is about to.
WITH held AS (
    SELECT name FROM mainstay.schedule
    WHERE name = :name::text AND definition = :definition::bigint AND next_at = :due::timestamptz AND NOT paused
    FOR UPDATE SKIP LOCKED
), published AS (
    INSERT INTO mainstay.message (kind, queue, payload, headers, key, key_limit, priority, state, ready_at, rank,
                                  expires_at, unique_key)
    SELECT :kind::text, :queue::text, payload::jsonb, headers::jsonb, :key::text, :key_limit::smallint,
           :priority::smallint, 'waiting', now(), now() - :priority::smallint * interval '1 hour',
           now() + make_interval(secs => :expires::float8), :unique::text
    FROM held, unnest(:payloads::text[], :headers::text[]) WITH ORDINALITY AS tick (payload, headers, place)
    ORDER BY place
    ON CONFLICT (unique_key) WHERE unique_key IS NOT NULL DO NOTHING
    RETURNING id
)
UPDATE mainstay.schedule
SET next_at = :next::timestamptz, last_tick = :last::timestamptz,
    last_fired = CASE WHEN EXISTS (SELECT FROM published) THEN :fired::timestamptz ELSE last_fired END,
    last_message = coalesce((SELECT max(id) FROM published), last_message)
FROM held WHERE schedule.name = held.name
RETURNING (SELECT count(*) FROM published)
