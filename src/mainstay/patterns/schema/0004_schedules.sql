-- Schedules: what code declares, which of it counts, and how far each one has come.

-- Every definition of a schedule that a worker's code has ever declared, numbered in the order of their appearance.
CREATE TABLE mainstay.schedule_definition (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    schedule text NOT NULL CHECK (schedule <> ''),
    digest text NOT NULL,
    definition jsonb NOT NULL,
    UNIQUE (schedule, digest)
);

-- Which worker declares what. Of the definitions that live workers declare, the one that appeared last counts.
CREATE TABLE mainstay.schedule_declaration (
    worker bigint REFERENCES mainstay.worker ON DELETE CASCADE,
    definition bigint REFERENCES mainstay.schedule_definition ON DELETE CASCADE,
    PRIMARY KEY (worker, definition)
);
CREATE INDEX schedule_declaration_definition ON mainstay.schedule_declaration (definition);

CREATE TABLE mainstay.schedule (
    name text PRIMARY KEY,
    definition bigint NOT NULL REFERENCES mainstay.schedule_definition,
    next_at timestamptz NOT NULL,           -- the first tick that has not been dealt with
    last_tick timestamptz,                  -- the newest tick dealt with: fired or passed over
    last_fired timestamptz,                 -- the newest tick that was fired
    last_message bigint,                    -- the message of that tick
    paused boolean NOT NULL DEFAULT false,
    undeclared_since timestamptz,           -- no live worker's code has it any more

    CONSTRAINT next_is_later CHECK (next_at > last_tick),
    CONSTRAINT fired_has_message CHECK ((last_fired IS NULL) = (last_message IS NULL))
);
CREATE INDEX schedule_definition_counts ON mainstay.schedule (definition);

-- No tick is dealt with twice, whatever a worker believes: each lies at or after the one that was next.
CREATE FUNCTION mainstay.refuse_tick() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'schedule % cannot fire at %: its next tick is %', OLD.name, NEW.last_tick, OLD.next_at
        USING ERRCODE = 'check_violation';
END $$;

CREATE TRIGGER tick BEFORE UPDATE OF last_tick ON mainstay.schedule FOR EACH ROW
WHEN (NEW.last_tick IS DISTINCT FROM OLD.last_tick
      AND (NEW.last_tick IS NULL OR NEW.last_tick < OLD.next_at OR OLD.paused))
EXECUTE FUNCTION mainstay.refuse_tick();
