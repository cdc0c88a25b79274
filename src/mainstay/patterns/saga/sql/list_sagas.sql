-- Sagas by filter, newest first, as JSON; each filter that is null lets everything pass. A page ends before the id :before.
SELECT (to_jsonb(saga) - 'data' - 'keep' - 'keep_until')::text
FROM mainstay.saga_status AS saga
WHERE (:states::text[] IS NULL OR state = ANY (:states::text[]::mainstay.saga_state[]))
  AND (:kind::text IS NULL OR kind = :kind::text)
  AND (:key::text IS NULL OR key = :key::text)
  AND (:lock::text IS NULL OR lock = :lock::text)
  AND (NOT :stuck::boolean OR (ended_at IS NULL AND stuck IS NOT NULL))
  AND (:before::bigint IS NULL OR id < :before::bigint)
ORDER BY id DESC LIMIT :most::int
