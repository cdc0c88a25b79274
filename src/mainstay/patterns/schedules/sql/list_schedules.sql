-- All schedules, with what became of the last job of each.
SELECT schedule.name, definition.definition::text,
       CASE WHEN schedule.paused THEN 'paused' WHEN EXISTS (
           SELECT FROM mainstay.schedule_definition AS any_definition
           JOIN mainstay.schedule_declaration AS declared ON declared.definition = any_definition.id
           JOIN mainstay.worker ON worker.id = declared.worker
           WHERE any_definition.schedule = schedule.name AND worker.alive_until > now()
       ) THEN 'active' ELSE 'undeclared' END,
       schedule.next_at, schedule.last_fired, schedule.last_message, message.state::text
FROM mainstay.schedule
JOIN mainstay.schedule_definition AS definition ON definition.id = schedule.definition
LEFT JOIN mainstay.message ON message.id = schedule.last_message
ORDER BY schedule.name
