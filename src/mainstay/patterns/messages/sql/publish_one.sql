-- Put one message on the table, in the publisher's own transaction; its id.
INSERT INTO mainstay.message (kind, queue, payload, state, ready_at, rank)
VALUES (:kind::text, :queue::text, :payload::text::jsonb, 'waiting', now(), now())
RETURNING id
