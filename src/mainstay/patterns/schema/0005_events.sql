-- Events: who subscribes to what. An event is as many messages as it has subscribers, made by the publisher's one INSERT.

CREATE TYPE mainstay.subscription_state AS ENUM (
    'opening',  -- declared, and the first of its event: what was published before it is being handed over, in order
    'open',     -- publishers make a message for it
    'retired'   -- no code has it any more
);

CREATE TABLE mainstay.subscription (
    subscriber text NOT NULL CHECK (subscriber <> ''),   -- the kind of its messages
    event text NOT NULL CHECK (event <> ''),             -- the event's name; '*' is every event
    queue text NOT NULL CHECK (queue <> ''),
    relay boolean NOT NULL DEFAULT false,                -- sends on to a broker, so it never gets what came from one
    state mainstay.subscription_state NOT NULL DEFAULT 'opening',
    since timestamptz NOT NULL DEFAULT now(),            -- in this state
    declared_at timestamptz NOT NULL DEFAULT now(),      -- when a worker last said that its code has it
    PRIMARY KEY (subscriber, event)
);

CREATE FUNCTION mainstay.refuse_subscription_transition() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the subscription of % to % cannot go from % to %', OLD.subscriber, OLD.event, OLD.state, NEW.state
        USING ERRCODE = 'check_violation';
END $$;

CREATE TRIGGER transition BEFORE UPDATE OF state ON mainstay.subscription FOR EACH ROW
WHEN (OLD.state <> NEW.state AND (OLD.state, NEW.state) NOT IN (
    ('opening', 'open'),      -- all that was published before it has been handed over
    ('opening', 'retired'),
    ('open', 'retired'),      -- not declared for a long time, or by hand
    ('retired', 'opening'),   -- declared again, as the first of its event
    ('retired', 'open')       -- declared again, beside others
)) EXECUTE FUNCTION mainstay.refuse_subscription_transition();

-- Events before their first subscriber ----------------------------------------------------------------------

-- The events that wait unclaimed: one index probe for each queue, however many messages there are.
CREATE FUNCTION mainstay.unclaimed_events() RETURNS SETOF text LANGUAGE sql STABLE AS $$
    WITH RECURSIVE found (queue) AS (
        (SELECT queue FROM mainstay.message WHERE state = 'waiting' ORDER BY queue LIMIT 1)
        UNION ALL
        SELECT (SELECT message.queue FROM mainstay.message
                WHERE state = 'waiting' AND message.queue > found.queue ORDER BY message.queue LIMIT 1)
        FROM found WHERE found.queue IS NOT NULL
    )
    SELECT substr(queue, length('mainstay.unclaimed:') + 1) FROM found WHERE starts_with(queue, 'mainstay.unclaimed:');
$$;

-- Hand unclaimed messages of these events ('*': of all) over to those who subscribe by now, oldest first, at most so many
-- of each; whether there may be more, and which queues got some. One caller at a time, so that what was published first
-- is handed over first; where another one is at it, nothing is done.
CREATE FUNCTION mainstay.hand_over_events(wanted text[], most integer, OUT more boolean, OUT queues text[])
LANGUAGE plpgsql AS $$
DECLARE
    wanted_event text;
    handed bigint;
    given text[];
BEGIN
    more := false;
    queues := '{}';
    IF NOT pg_try_advisory_xact_lock(hashtextextended('mainstay hands over events', 0)) THEN
        RETURN;
    END IF;
    FOR wanted_event IN
        SELECT unnest(wanted) WHERE '*' <> ALL (wanted) UNION ALL SELECT mainstay.unclaimed_events() WHERE '*' = ANY (wanted)
    LOOP
        WITH taken AS MATERIALIZED (
            SELECT id FROM mainstay.message
            WHERE state = 'waiting' AND queue = 'mainstay.unclaimed:' || wanted_event
              AND EXISTS (
                SELECT FROM mainstay.subscription
                WHERE subscription.event IN (wanted_event, '*') AND subscription.state <> 'retired'
                  AND NOT (relay AND message.headers ->> 'source' IS NOT NULL))
            ORDER BY id LIMIT most
            FOR UPDATE
        ), gone AS (
            DELETE FROM mainstay.message USING taken WHERE message.id = taken.id RETURNING message.*
        ), claimed AS (
            INSERT INTO mainstay.message
                (kind, queue, payload, headers, key, key_limit, published_at, state, ready_at, rank)
            SELECT subscriber, known.queue, payload, headers, subscriber || ' ' || key, key_limit, published_at, 'waiting',
                   ready_at, rank
            FROM gone CROSS JOIN LATERAL (
                SELECT DISTINCT subscriber, queue FROM mainstay.subscription
                WHERE subscription.event IN (wanted_event, '*') AND subscription.state <> 'retired'
                  AND NOT (relay AND gone.headers ->> 'source' IS NOT NULL)
            ) AS known
            ORDER BY gone.id, subscriber
            RETURNING message.queue
        )
        SELECT (SELECT count(*) FROM gone), (SELECT array_agg(DISTINCT claimed.queue) FROM claimed)
        INTO handed, given;
        more := more OR handed >= most;
        queues := queues || coalesce(given, '{}');
    END LOOP;
END $$;

-- Open the subscriptions to these events: hand over the last of what was published before, and let publishers see them
-- in the same moment. It waits until no transaction is under way that has published without seeing them, but keeps other
-- publishers waiting for a fifth of a second at most, and then does nothing. A function, so that the lock never outlasts
-- one round trip, whatever becomes of the worker; its statements each see what was committed before.
CREATE FUNCTION mainstay.open_subscriptions(wanted text[], OUT opened boolean, OUT queues text[])
LANGUAGE plpgsql SET lock_timeout = '200ms' AS $$
DECLARE
    more boolean;
BEGIN
    opened := false;
    PERFORM pg_advisory_xact_lock(hashtextextended('mainstay hands over events', 0));
    LOCK TABLE mainstay.subscription IN ACCESS EXCLUSIVE MODE;
    SELECT handed.more, handed.queues INTO more, queues FROM mainstay.hand_over_events(wanted, 1000) AS handed;
    IF NOT more THEN
        UPDATE mainstay.subscription SET state = 'open', since = now() WHERE state = 'opening' AND event = ANY (wanted);
        opened := true;
    END IF;
EXCEPTION WHEN lock_not_available THEN
    queues := '{}';
END $$;
