-- Keep what came from a broker and could not be read or stored, as a dead message, where people see it; its id.
INSERT INTO mainstay.message (kind, queue, payload, headers, state, ready_at, rank, ended_at, attempts, errors)
VALUES (:kind::text, 'mainstay.undeliverable', :payload::text::jsonb, :headers::text::jsonb, 'dead', now(), now(), now(),
        :attempts::int, jsonb_build_array(:error::text::jsonb))
RETURNING id
