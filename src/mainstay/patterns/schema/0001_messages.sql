-- The durable-message engine: what has to be done, who is doing it, and what became of it.
-- The states and their transitions are drawn in patterns/messages/messages.md; a test compares the two.

CREATE TYPE mainstay.message_state AS ENUM (
    'scheduled',  -- not due yet: published with a delay, or waiting for its next attempt
    'waiting',    -- due: the next free worker takes it
    'blocked',    -- due, but as many messages of its key are at work as may be (or, with a limit of one, an earlier one is not done)
    'running',    -- leased to one worker
    'succeeded',  -- done, and kept for a time for its result; most are deleted as they succeed
    'dead',       -- given up after its last attempt; kept until someone redrives or deletes it
    'cancelled',  -- called off
    'expired'     -- its time had passed before it could be done
);

-- One row, made once. Its id tells the outside world which database an idempotency key comes from.
CREATE TABLE mainstay.installation (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    id uuid NOT NULL DEFAULT gen_random_uuid()
);
INSERT INTO mainstay.installation DEFAULT VALUES;

-- What is known of a queue beyond its messages. A queue without a row is neither paused nor limited.
CREATE TABLE mainstay.queue (
    name text PRIMARY KEY,
    paused boolean NOT NULL DEFAULT false,
    concurrency integer CHECK (concurrency >= 1),       -- live leases at once, over all workers
    rate double precision CHECK (rate > 0),             -- starts a second, over all workers
    burst integer NOT NULL DEFAULT 1 CHECK (burst >= 1),-- starts at once after a quiet time
    next_start timestamptz NOT NULL DEFAULT '-infinity' -- theoretical arrival time of the generic cell rate algorithm
);

-- A running worker process. Its leases are alive as long as it is: one heartbeat for all of them.
CREATE TABLE mainstay.worker (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,                          -- host, process and what else helps to find it
    started_at timestamptz NOT NULL DEFAULT now(),
    alive_until timestamptz NOT NULL,            -- after this, any other worker may take over what it leased
    idle boolean NOT NULL DEFAULT false,         -- wants to be woken by NOTIFY
    info jsonb NOT NULL DEFAULT '{}'             -- queues, kinds, counters: for people
) WITH (fillfactor = 50);                        -- so that heartbeats stay on their page (HOT)

CREATE TABLE mainstay.message (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    published_at timestamptz NOT NULL DEFAULT now(),
    ready_at timestamptz NOT NULL,               -- due from then on
    rank timestamptz NOT NULL,                   -- ready_at less an hour for each step of priority: lowest first
    expires_at timestamptz,
    ended_at timestamptz,
    keep_until timestamptz,                      -- an ended message may be pruned after this; null: never
    unique_until timestamptz,                    -- its unique key holds until then, even when it has ended
    leased_by bigint,                            -- worker.id
    lease integer NOT NULL DEFAULT 0,            -- fencing token: one more with every lease
    attempts integer NOT NULL DEFAULT 0,         -- leases that count: those handed back do not
    state mainstay.message_state NOT NULL DEFAULT 'waiting',
    priority smallint NOT NULL DEFAULT 0 CHECK (priority BETWEEN 0 AND 9),
    key_limit smallint CHECK (key_limit >= 1),   -- messages of its key at work at once; 1 keeps their order
    key_slot smallint,                           -- the slot of its key that it holds while it runs
    cancel_requested boolean NOT NULL DEFAULT false,
    queue text NOT NULL CHECK (queue <> ''),
    kind text NOT NULL CHECK (kind <> ''),
    key text,
    unique_key text,
    payload jsonb NOT NULL,
    headers jsonb,                               -- trace context, tenant, causation: carried along, never interpreted
    progress jsonb,
    result jsonb,
    errors jsonb NOT NULL DEFAULT '[]',          -- one entry for each attempt that failed

    CONSTRAINT running_is_leased CHECK ((state = 'running') = (leased_by IS NOT NULL)),
    CONSTRAINT ended_has_time CHECK ((state IN ('succeeded', 'dead', 'cancelled', 'expired')) = (ended_at IS NOT NULL)),
    CONSTRAINT key_has_limit CHECK ((key IS NULL) = (key_limit IS NULL)),
    CONSTRAINT slot_is_held_while_running CHECK ((key_slot IS NOT NULL) = (key IS NOT NULL AND state = 'running')),
    CONSTRAINT slot_within_limit CHECK (key_slot BETWEEN 1 AND key_limit)
) WITH (
    -- A queue is small and changes all the time: vacuum it early and at full speed.
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0,
    autovacuum_vacuum_insert_scale_factor = 0.2, autovacuum_analyze_scale_factor = 0.2, autovacuum_analyze_threshold = 5000
);

CREATE INDEX message_waiting ON mainstay.message (queue, rank, id) WHERE state = 'waiting';
CREATE INDEX message_scheduled ON mainstay.message (ready_at) WHERE state = 'scheduled';
CREATE INDEX message_running ON mainstay.message (leased_by) WHERE state = 'running';
CREATE INDEX message_expiring ON mainstay.message (expires_at) WHERE expires_at IS NOT NULL AND ended_at IS NULL;
CREATE INDEX message_prunable ON mainstay.message (keep_until) WHERE keep_until IS NOT NULL;
CREATE INDEX message_dead ON mainstay.message (kind, ended_at) WHERE state = 'dead';
CREATE INDEX message_of_key ON mainstay.message (queue, key, id) WHERE key IS NOT NULL AND ended_at IS NULL;
CREATE INDEX message_blocked ON mainstay.message (queue, key, id) WHERE state = 'blocked';
-- No two messages of a key in the same slot: the limit of a key holds whatever a worker believes.
CREATE UNIQUE INDEX message_slot ON mainstay.message (queue, key, key_slot) WHERE key_slot IS NOT NULL;
CREATE UNIQUE INDEX message_unique ON mainstay.message (unique_key) WHERE unique_key IS NOT NULL;

-- Transitions ---------------------------------------------------------------------------------------------

CREATE FUNCTION mainstay.refuse_transition() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'message % cannot go from % to %', OLD.id, OLD.state, NEW.state USING ERRCODE = 'check_violation';
END $$;

CREATE TRIGGER transition BEFORE UPDATE OF state ON mainstay.message FOR EACH ROW
WHEN (OLD.state <> NEW.state AND (OLD.state, NEW.state) NOT IN (
    ('scheduled', 'waiting'),    -- its time has come
    ('waiting', 'blocked'),      -- its key is at its limit
    ('blocked', 'waiting'),      -- its key has room again
    ('waiting', 'running'),      -- leased
    ('running', 'waiting'),      -- handed back, or its worker has gone
    ('running', 'scheduled'),    -- the attempt failed, there will be another
    ('running', 'succeeded'),
    ('running', 'dead'),         -- the last attempt failed
    ('running', 'cancelled'),
    ('scheduled', 'cancelled'),
    ('waiting', 'cancelled'),
    ('blocked', 'cancelled'),
    ('scheduled', 'expired'),
    ('waiting', 'expired'),
    ('blocked', 'expired'),
    ('running', 'expired'),
    ('dead', 'waiting'),         -- redriven
    ('cancelled', 'waiting'),
    ('expired', 'waiting')
)) EXECUTE FUNCTION mainstay.refuse_transition();

-- Waking --------------------------------------------------------------------------------------------------

-- NOTIFY takes a lock on the whole cluster as its transaction commits, so it is sent only where a worker sleeps.
-- A worker that falls asleep while a publisher's transaction is open polls until it must have seen it (worker.py).
CREATE FUNCTION mainstay.wake_workers() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM mainstay.worker WHERE idle) THEN
        PERFORM pg_notify('mainstay_messages', woken.queue)
        FROM (SELECT DISTINCT queue FROM published WHERE state = 'waiting') AS woken;
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER wake AFTER INSERT ON mainstay.message
REFERENCING NEW TABLE AS published FOR EACH STATEMENT EXECUTE FUNCTION mainstay.wake_workers();

-- Keys ----------------------------------------------------------------------------------------------------

-- A message of a key has ended, or left its slot: let the next one try. A function, because each statement in it
-- has a snapshot of its own: it must see what was blocked while this transaction waited for a row.
CREATE FUNCTION mainstay.unblock_key() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE mainstay.message SET state = 'waiting'
    WHERE state = 'blocked' AND id = (
        SELECT id FROM mainstay.message
        WHERE queue = OLD.queue AND key = OLD.key AND state = 'blocked'
        ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED);
    IF FOUND AND EXISTS (SELECT FROM mainstay.worker WHERE idle) THEN
        PERFORM pg_notify('mainstay_messages', OLD.queue);
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER unblock_key_ended AFTER UPDATE OF state ON mainstay.message FOR EACH ROW
WHEN (OLD.key IS NOT NULL AND OLD.ended_at IS NULL
      AND (NEW.ended_at IS NOT NULL OR (OLD.key_slot IS NOT NULL AND NEW.key_slot IS NULL AND OLD.key_limit > 1)))
EXECUTE FUNCTION mainstay.unblock_key();

CREATE TRIGGER unblock_key_deleted AFTER DELETE ON mainstay.message FOR EACH ROW
WHEN (OLD.key IS NOT NULL AND OLD.ended_at IS NULL) EXECUTE FUNCTION mainstay.unblock_key();
