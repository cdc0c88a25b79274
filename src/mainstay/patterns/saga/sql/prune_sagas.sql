-- Delete what has ended and need not be kept any longer, a batch at a time; how many.
WITH pruned AS (
    DELETE FROM mainstay.saga
    WHERE id = ANY (ARRAY(SELECT id FROM mainstay.saga WHERE keep_until <= now() LIMIT :most::int FOR UPDATE SKIP LOCKED))
    RETURNING 1
)
SELECT count(*) FROM pruned
