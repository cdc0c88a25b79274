-- From now on this definition counts, if the one that it replaces (null: none) still does. What is due already stays due,
-- and where the ticks did not change neither does the next one.
INSERT INTO mainstay.schedule AS schedule (name, definition, next_at)
VALUES (:name::text, :definition::bigint, :next::timestamptz)
ON CONFLICT (name) DO UPDATE SET definition = excluded.definition,
    next_at = CASE
        WHEN schedule.next_at <= now() THEN schedule.next_at
        WHEN (SELECT count(DISTINCT definition -> 'ticks') FROM mainstay.schedule_definition
              WHERE id IN (schedule.definition, excluded.definition)) = 1 THEN schedule.next_at
        ELSE excluded.next_at
    END
WHERE schedule.definition = :replaced::bigint
