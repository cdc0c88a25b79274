-- Put many messages on the table by one statement, in this order; their ids.
INSERT INTO mainstay.message (kind, queue, payload, state, ready_at, rank)
SELECT kind, queue, payload::jsonb, 'waiting', now(), now()
FROM unnest(:kinds::text[], :queues::text[], :payloads::text[]) AS draft (kind, queue, payload)
RETURNING id
