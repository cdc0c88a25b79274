-- One schedule, held until the transaction ends: the definition that counts, the time, and the newest tick dealt with.
SELECT definition.definition::text, now(), schedule.last_tick
FROM mainstay.schedule JOIN mainstay.schedule_definition AS definition ON definition.id = schedule.definition
WHERE schedule.name = :name::text
FOR UPDATE OF schedule
