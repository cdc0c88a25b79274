-- What was given up, called off or expired starts over, with all of its attempts before it; its history stays.
UPDATE mainstay.message
SET state = 'waiting', ended_at = NULL, keep_until = NULL, attempts = 0, ready_at = now(), expires_at = NULL,
    rank = now() - priority * interval '1 hour', cancel_requested = false
WHERE id IN (
    SELECT id FROM mainstay.message
    WHERE state IN ('dead', 'cancelled', 'expired')
      AND (:ids::bigint[] IS NULL OR id = ANY (:ids::bigint[]))
      AND (:states::text[] IS NULL OR state = ANY (:states::text[]::mainstay.message_state[]))
      AND (:queue::text IS NULL OR queue = :queue::text)
      AND (:kind::text IS NULL OR kind = :kind::text)
      AND (:key::text IS NULL OR key = :key::text)
      AND (:error::text IS NULL OR errors::text ILIKE '%' || :error::text || '%')
    ORDER BY id LIMIT :most::int FOR UPDATE SKIP LOCKED)
RETURNING id, pg_notify('mainstay_messages', queue)
