-- Locks that are free, as far as is to be seen, and that a saga waits for: it began to wait, unseen, as the one before ended.
SELECT DISTINCT lock FROM mainstay.saga AS next
WHERE state = 'waiting'
  AND NOT EXISTS (
    SELECT FROM mainstay.saga AS other
    WHERE other.lock = next.lock AND other.ended_at IS NULL AND other.state <> 'waiting')
ORDER BY lock LIMIT 100
