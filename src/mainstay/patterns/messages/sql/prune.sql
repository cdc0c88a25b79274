-- Delete what has ended and need not be kept any longer, a batch at a time; how many.
WITH old AS (
    SELECT id FROM mainstay.message WHERE keep_until <= now() LIMIT :most::int FOR UPDATE SKIP LOCKED
), pruned AS (
    DELETE FROM mainstay.message USING old WHERE message.id = old.id RETURNING 1
)
SELECT count(*) FROM pruned
