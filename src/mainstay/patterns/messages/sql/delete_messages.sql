-- Forget these messages, which have ended.
DELETE FROM mainstay.message WHERE id = ANY (:ids::bigint[]) AND ended_at IS NOT NULL
RETURNING id
