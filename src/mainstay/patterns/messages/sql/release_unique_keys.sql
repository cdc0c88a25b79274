-- Free those of these unique keys whose window has passed and whose message has ended.
UPDATE mainstay.message SET unique_key = NULL, unique_until = NULL
WHERE unique_key = ANY (:keys::text[]) AND ended_at IS NOT NULL AND unique_until <= now()
