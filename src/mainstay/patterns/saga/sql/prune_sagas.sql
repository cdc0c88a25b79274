-- Delete what has ended and need not be kept any longer, a batch at a time.
DELETE FROM mainstay.saga
WHERE id = ANY (ARRAY(SELECT id FROM mainstay.saga WHERE keep_until <= now() LIMIT :most::int FOR UPDATE SKIP LOCKED))
