-- Sagas: several steps, each a transaction or a call of its own, that are all done or undone again.
-- The states and their transitions are drawn in patterns/saga/saga.md; a test compares the two.

CREATE TYPE mainstay.saga_state AS ENUM (
    'waiting',       -- begins when an earlier saga with its lock has ended
    'running',       -- goes forward; can still go back
    'finishing',     -- past its pivot: only goes forward
    'compensating',  -- undoes what it has done, last step first
    'completed',     -- every step is done
    'compensated'    -- everything that it had done is undone
);

CREATE TYPE mainstay.saga_step_state AS ENUM (
    'pending',  -- not begun
    'begun',    -- a call outside has been made or is about to be: nobody knows its outcome
    'done',
    'failed',   -- did not happen, for certain
    'skipped',  -- by hand: need not be done, or has been done otherwise
    'undone',
    'left'      -- by hand: its undo was skipped, so what it did may still be there
);

CREATE TABLE mainstay.saga (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL CHECK (kind <> ''),
    key text,                               -- business key: one saga of a kind with it, unless that was compensated
    lock text,                              -- one saga at a time with it, in the order of their starts
    queue text NOT NULL CHECK (queue <> ''),
    state mainstay.saga_state NOT NULL,
    step text,                              -- being done or undone
    version integer NOT NULL DEFAULT 1,     -- one more with every move; a step's message of another version does nothing
    data jsonb NOT NULL CHECK (jsonb_typeof(data) = 'object'),
    deadline timestamptz,                   -- until the pivot is passed, goes back after this
    requested text CHECK (requested IN ('cancel', 'compensate', 'skip')),  -- by a person, while a step was at work
    because text,                           -- the reason given for it
    error text,                             -- why it went back
    keep interval NOT NULL,                 -- how long it is kept after its end
    started_at timestamptz NOT NULL DEFAULT now(),
    changed_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz,
    keep_until timestamptz,

    CONSTRAINT ended_has_time CHECK ((state IN ('completed', 'compensated')) = (ended_at IS NOT NULL)),
    CONSTRAINT under_way_has_step CHECK ((state IN ('running', 'finishing', 'compensating')) = (step IS NOT NULL)),
    CONSTRAINT going_back_has_reason CHECK (state NOT IN ('compensating', 'compensated') OR error IS NOT NULL),
    CONSTRAINT waiting_has_lock CHECK (state <> 'waiting' OR lock IS NOT NULL),
    CONSTRAINT request_has_reason CHECK ((requested IS NULL) = (because IS NULL))
);

CREATE UNIQUE INDEX saga_key ON mainstay.saga (kind, key) WHERE key IS NOT NULL AND state <> 'compensated';
CREATE UNIQUE INDEX saga_lock ON mainstay.saga (lock)
    WHERE lock IS NOT NULL AND state IN ('running', 'finishing', 'compensating');
CREATE INDEX saga_of_lock ON mainstay.saga (lock, id) WHERE lock IS NOT NULL AND ended_at IS NULL;
CREATE INDEX saga_waiting ON mainstay.saga (id) WHERE state = 'waiting';
CREATE INDEX saga_under_way ON mainstay.saga (id) WHERE ended_at IS NULL;
CREATE INDEX saga_prunable ON mainstay.saga (keep_until) WHERE keep_until IS NOT NULL;

-- The plan, fixed as the saga starts, and its history: a deploy in the middle changes neither.
CREATE TABLE mainstay.saga_step (
    saga bigint NOT NULL REFERENCES mainstay.saga ON DELETE CASCADE,
    position smallint NOT NULL CHECK (position >= 1),
    name text NOT NULL CHECK (name <> ''),
    state mainstay.saga_step_state NOT NULL DEFAULT 'pending',
    pivot boolean NOT NULL,
    undoable boolean NOT NULL,
    patience integer NOT NULL CHECK (patience >= 1),       -- failed attempts from which on it counts as stuck
    undo_patience integer CHECK (undo_patience >= 1),
    begun_at timestamptz,                                  -- when the first call outside was about to be made
    done_at timestamptz,
    undone_at timestamptz,
    error text,
    PRIMARY KEY (saga, position),
    UNIQUE (saga, name),
    CONSTRAINT pivot_has_no_undo CHECK (NOT (pivot AND undoable)),
    CONSTRAINT undo_has_patience CHECK (undoable = (undo_patience IS NOT NULL))
);
CREATE UNIQUE INDEX saga_step_pivot ON mainstay.saga_step (saga) WHERE pivot;

-- Transitions ---------------------------------------------------------------------------------------------

CREATE FUNCTION mainstay.refuse_saga_transition() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%', CASE TG_TABLE_NAME
        WHEN 'saga' THEN format('saga %s cannot go from %s to %s', to_jsonb(OLD) ->> 'id', OLD.state, NEW.state)
        ELSE format('step %s of saga %s cannot go from %s to %s', to_jsonb(OLD) ->> 'name', to_jsonb(OLD) ->> 'saga',
                    OLD.state, NEW.state) END
        USING ERRCODE = 'check_violation';
END $$;

CREATE TRIGGER transition BEFORE UPDATE OF state ON mainstay.saga FOR EACH ROW
WHEN (OLD.state <> NEW.state AND (OLD.state, NEW.state) NOT IN (
    ('waiting', 'running'),          -- its lock is free
    ('waiting', 'compensated'),      -- cancelled before it began
    ('running', 'finishing'),        -- the pivot is done
    ('running', 'completed'),        -- the last step is done
    ('running', 'compensating'),     -- failed, late, or cancelled
    ('running', 'compensated'),      -- the same, and there is nothing to undo
    ('finishing', 'completed'),      -- the last step is done
    ('compensating', 'compensated')  -- the first step is undone
)) EXECUTE FUNCTION mainstay.refuse_saga_transition();

CREATE TRIGGER transition BEFORE UPDATE OF state ON mainstay.saga_step FOR EACH ROW
WHEN (OLD.state <> NEW.state AND (OLD.state, NEW.state) NOT IN (
    ('pending', 'begun'),     -- about to call outside
    ('pending', 'done'),      -- a database step has committed
    ('pending', 'failed'),    -- a database step was rolled back for the last time
    ('pending', 'skipped'),
    ('begun', 'done'),
    ('begun', 'failed'),      -- the other side has refused
    ('begun', 'skipped'),
    ('begun', 'undone'),      -- its outcome stayed unknown
    ('begun', 'left'),
    ('done', 'undone'),
    ('done', 'left'),
    ('skipped', 'undone'),
    ('skipped', 'left')
)) EXECUTE FUNCTION mainstay.refuse_saga_transition();

-- The law of sagas: none ends before all is done, or all is undone. After the statement, so that it sees the step too.
CREATE FUNCTION mainstay.saga_ends_whole() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT FROM mainstay.saga_step WHERE saga = NEW.id AND CASE NEW.state
            WHEN 'completed' THEN state NOT IN ('done', 'skipped')
            ELSE undoable AND (state IN ('begun', 'done') OR (state = 'skipped' AND begun_at IS NOT NULL)) END)
    THEN
        RAISE EXCEPTION 'saga % cannot be %: some of its steps are not', NEW.id, NEW.state
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER ends_whole AFTER UPDATE OF state ON mainstay.saga FOR EACH ROW
WHEN (OLD.state <> NEW.state AND NEW.ended_at IS NOT NULL) EXECUTE FUNCTION mainstay.saga_ends_whole();

-- Looking at them -----------------------------------------------------------------------------------------

-- Each saga with the message of its step, and why it is stuck, if it is. A saga under way has one message, named by
-- its unique key; that of a message which was given up or called off is free.
CREATE VIEW mainstay.saga_status AS
SELECT saga.*,
       message.id AS message, message.state AS message_state, message.ready_at AS due_at,
       message.attempts - CASE WHEN message.state = 'running' THEN 1 ELSE 0 END AS failed_attempts,
       message.errors -> -1 ->> 'error' AS last_error,
       CASE
           WHEN saga.state NOT IN ('running', 'finishing', 'compensating') THEN NULL
           WHEN message.id IS NULL
               THEN format('the message of step %s was called off or given up; retry the saga', saga.step)
           WHEN message.state = 'scheduled' AND message.progress ? 'postponed'
               THEN format('step %s is postponed: %s', saga.step, message.progress ->> 'postponed')
           WHEN message.attempts - CASE WHEN message.state = 'running' THEN 1 ELSE 0 END
                >= CASE saga.state WHEN 'compensating' THEN step.undo_patience ELSE step.patience END
               THEN format('%s has failed %s times: %s',
                           CASE saga.state WHEN 'compensating' THEN 'the undo of step ' ELSE 'step ' END || saga.step,
                           message.attempts - CASE WHEN message.state = 'running' THEN 1 ELSE 0 END,
                           coalesce(message.errors -> -1 ->> 'error', 'no error is known'))
           WHEN message.state = 'waiting' AND message.ready_at < now() - interval '1 minute'
               THEN format('no worker has taken step %s for %s s: none that runs knows it, its queue is paused, or all are busy',
                           saga.step, round(extract(epoch FROM now() - message.ready_at)))
       END AS stuck
FROM mainstay.saga
LEFT JOIN mainstay.saga_step AS step ON step.saga = saga.id AND step.name = saga.step
LEFT JOIN mainstay.message ON message.unique_key = 'mainstay.saga:' || saga.id AND saga.ended_at IS NULL;
