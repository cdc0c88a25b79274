-- Messages by filter, newest first; each filter that is null lets everything pass. A page ends before the id :before.
SELECT id, state::text, queue, kind, key, priority, attempts, published_at, ready_at, ended_at, leased_by,
       (SELECT name FROM mainstay.worker WHERE worker.id = leased_by), errors -> -1 ->> 'error'
FROM mainstay.message
WHERE (:states::text[] IS NULL OR state = ANY (:states::text[]::mainstay.message_state[]))
  AND (:queue::text IS NULL OR queue = :queue::text)
  AND (:kind::text IS NULL OR kind = :kind::text)
  AND (:key::text IS NULL OR key = :key::text)
  AND (:error::text IS NULL OR errors::text ILIKE '%' || :error::text || '%')
  AND (:before::bigint IS NULL OR id < :before::bigint)
ORDER BY id DESC LIMIT :most::int
