-- Why the worker of these attempts seemed to have gone away: said in the entry that their rescue has left, where there is one.
UPDATE mainstay.message
SET errors = (
    SELECT jsonb_agg(
        CASE WHEN entry @> told.entry THEN entry || jsonb_build_object('error', told.error) ELSE entry END ORDER BY place)
    FROM jsonb_array_elements(errors) WITH ORDINALITY AS history (entry, place))
FROM (
    SELECT id, error, jsonb_build_object('attempt', attempt, 'error', 'its worker ' || :name::text || ' went away') AS entry
    FROM unnest(:ids::bigint[], :attempts::int[], :errors::text[]) AS given (id, attempt, error)
) AS told
WHERE message.id = told.id AND message.errors @> jsonb_build_array(told.entry)
RETURNING message.id
