-- As publish_many, for messages with options; the position of each that was published, and its id. A message whose
-- unique key is taken is not published: it has no row in the answer.
INSERT INTO mainstay.message (kind, queue, payload, headers, key, key_limit, priority, state, ready_at, rank,
                              expires_at, unique_key, unique_until)
SELECT kind, queue, payload::jsonb, headers, key, key_limit, priority,
       CASE WHEN ready_at > now() THEN 'scheduled' ELSE 'waiting' END::mainstay.message_state,
       ready_at, ready_at - priority * interval '1 hour', expires_at, unique_key, unique_until
FROM (
    SELECT kind, queue, payload, place,
           o -> 'headers' AS headers,
           o ->> 'key' AS key,
           (o ->> 'key_limit')::smallint AS key_limit,
           coalesce((o ->> 'priority')::smallint, 0::smallint) AS priority,
           coalesce((o ->> 'at')::timestamptz, now() + make_interval(secs => coalesce((o ->> 'delay')::float8, 0))) AS ready_at,
           coalesce((o ->> 'expires_at')::timestamptz, now() + make_interval(secs => (o ->> 'expires')::float8)) AS expires_at,
           o ->> 'unique' AS unique_key,
           now() + make_interval(secs => (o ->> 'unique_for')::float8) AS unique_until
    FROM (SELECT kind, queue, payload, options::jsonb AS o, place
          FROM unnest(:kinds::text[], :queues::text[], :payloads::text[], :options::text[])
               WITH ORDINALITY AS given (kind, queue, payload, options, place)) AS draft
) AS message
ORDER BY place
ON CONFLICT (unique_key) WHERE unique_key IS NOT NULL DO NOTHING
RETURNING id, unique_key
