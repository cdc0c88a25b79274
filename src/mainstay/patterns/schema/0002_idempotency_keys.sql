-- Idempotency keys over HTTP: the reply to each keyed request, committed together with what the request did.
-- A row means "done". There is no row for a request at work: an advisory lock stands for it, and ends with its transaction.

CREATE TABLE mainstay.idempotency_key (
    id uuid PRIMARY KEY,                         -- made from tenant, route and key: the first 122 bits of their SHA-256
    tenant text NOT NULL,                        -- on whose behalf; '' where keys are shared by all
    route text NOT NULL,                         -- method and path: POST /orders
    key text NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
    fingerprint bytea NOT NULL CHECK (octet_length(fingerprint) = 32),  -- SHA-256 of the request
    status smallint NOT NULL CHECK (status BETWEEN 200 AND 499),        -- of the reply
    headers jsonb NOT NULL,                      -- of the reply: [[name, value], ...]
    body bytea NOT NULL,                         -- of the reply, or the first part of a large one
    parts integer NOT NULL DEFAULT 0 CHECK (parts >= 0),                -- further parts, in idempotency_key_part
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL              -- from then on the key is as one never seen
);

CREATE INDEX idempotency_key_expiring ON mainstay.idempotency_key (expires_at);

CREATE TABLE mainstay.idempotency_key_part (
    id uuid REFERENCES mainstay.idempotency_key ON DELETE CASCADE,
    number integer CHECK (number >= 1),
    body bytea NOT NULL,
    PRIMARY KEY (id, number)
);

-- Take the key for this transaction; the reply that is stored under it, if there is one. One row always comes back.
-- A function, so that it is one round trip, and because each statement in it has a snapshot of its own: a plain
-- SELECT would look at the table as it was before it had the lock, and miss what the holder has just committed.
CREATE FUNCTION mainstay.claim_idempotency_key(wanted uuid, lock bigint,
    OUT claimed boolean,                         -- false: another transaction is at work under this key
    OUT fingerprint bytea, OUT status smallint, OUT headers text, OUT body bytea, OUT parts integer)
LANGUAGE plpgsql AS $$
BEGIN
    claimed := pg_try_advisory_xact_lock(lock);
    IF NOT claimed THEN
        RETURN;
    END IF;
    SELECT found.fingerprint, found.status, found.headers::text, found.body, found.parts
    INTO fingerprint, status, headers, body, parts
    FROM mainstay.idempotency_key AS found
    WHERE found.id = wanted AND found.expires_at > clock_timestamp();
    IF NOT FOUND THEN
        DELETE FROM mainstay.idempotency_key AS expired WHERE expired.id = wanted;
    END IF;
END $$;
