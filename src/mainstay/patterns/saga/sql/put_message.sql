-- Put the message of a locked saga's step on the table again.
INSERT INTO mainstay.message (kind, queue, payload, unique_key, state, ready_at, rank)
SELECT :message::text, queue, jsonb_build_object('saga', id, 'version', version), 'mainstay.saga:' || id, 'waiting', now(), now()
FROM mainstay.saga WHERE id = :id::bigint
