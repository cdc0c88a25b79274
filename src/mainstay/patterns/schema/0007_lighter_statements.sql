-- The same rules for messages as before, in fewer and shorter expressions. PostgreSQL reads and prepares every constraint
-- and every condition of a trigger anew for each statement that writes to the table: for a single message, that took as
-- long as all the rest.

-- Transitions: the most frequent one is told by the condition, all others by the function.
CREATE FUNCTION mainstay.check_transition() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (OLD.state, NEW.state) IN (
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
    ) THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'message % cannot go from % to %', OLD.id, OLD.state, NEW.state USING ERRCODE = 'check_violation';
END $$;

DROP TRIGGER transition ON mainstay.message;
CREATE TRIGGER transition BEFORE UPDATE OF state ON mainstay.message FOR EACH ROW
WHEN (OLD.state <> NEW.state AND (OLD.state <> 'waiting' OR NEW.state <> 'running'))
EXECUTE FUNCTION mainstay.check_transition();
DROP FUNCTION mainstay.refuse_transition();

-- What has ended are the states from 'succeeded' on, in the order of the type.
ALTER TABLE mainstay.message
    DROP CONSTRAINT message_priority_check, DROP CONSTRAINT message_queue_check, DROP CONSTRAINT message_kind_check,
    DROP CONSTRAINT running_is_leased, DROP CONSTRAINT ended_has_time,
    ADD CONSTRAINT state_is_whole CHECK (
        (state = 'running') = (leased_by IS NOT NULL) AND (state >= 'succeeded') = (ended_at IS NOT NULL)
        AND priority BETWEEN 0 AND 9 AND queue <> '' AND kind <> ''),
    DROP CONSTRAINT message_key_limit_check, DROP CONSTRAINT key_has_limit,
    DROP CONSTRAINT slot_is_held_while_running, DROP CONSTRAINT slot_within_limit,
    ADD CONSTRAINT key_is_whole CHECK (
        CASE WHEN key IS NULL THEN key_limit IS NULL AND key_slot IS NULL
        ELSE coalesce(key_limit >= 1, false) AND (key_slot IS NOT NULL) = (state = 'running')
            AND coalesce(key_slot BETWEEN 1 AND key_limit, true) END);

-- Waking: one query instead of two where a worker sleeps.
CREATE OR REPLACE FUNCTION mainstay.wake_workers() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('mainstay_messages', woken.queue)
    FROM (SELECT DISTINCT queue FROM published WHERE state = 'waiting') AS woken
    WHERE EXISTS (SELECT FROM mainstay.worker WHERE idle);
    RETURN NULL;
END $$;
