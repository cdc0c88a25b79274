-- Note since when no live worker declares a schedule, and forget those for which that has been so for a week.
WITH seen AS MATERIALIZED (
    SELECT name, EXISTS (
        SELECT FROM mainstay.schedule_definition AS definition
        JOIN mainstay.schedule_declaration AS declared ON declared.definition = definition.id
        JOIN mainstay.worker ON worker.id = declared.worker
        WHERE definition.schedule = schedule.name AND worker.alive_until > now()) AS declared
    FROM mainstay.schedule
), noted AS (
    UPDATE mainstay.schedule SET undeclared_since = CASE WHEN seen.declared THEN NULL ELSE now() END
    FROM seen WHERE schedule.name = seen.name AND seen.declared = (undeclared_since IS NOT NULL)
), forgotten AS (
    DELETE FROM mainstay.schedule USING seen
    WHERE schedule.name = seen.name AND NOT seen.declared AND undeclared_since < now() - interval '7 days'
    RETURNING schedule.name
), definitions AS (
    DELETE FROM mainstay.schedule_definition USING forgotten WHERE schedule_definition.schedule = forgotten.name
)
SELECT name FROM forgotten
