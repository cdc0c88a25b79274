-- What this worker has to do now or within a second: of the definitions that it declares, those that count (no live
-- worker declares a newer one), where they are not taken over yet or are due. With the time, and the seconds to wait.
SELECT mine.schedule, mine.id, schedule.definition, schedule.paused, schedule.next_at, schedule.last_tick, now(),
       extract(epoch FROM schedule.next_at - now())::float8
FROM mainstay.schedule_declaration AS declared
JOIN mainstay.schedule_definition AS mine ON mine.id = declared.definition
LEFT JOIN mainstay.schedule ON schedule.name = mine.schedule
WHERE declared.worker = :worker::bigint
  AND (schedule.definition IS DISTINCT FROM mine.id
       OR (NOT schedule.paused AND schedule.next_at <= now() + interval '1 second'))
  AND NOT EXISTS (
      SELECT FROM mainstay.schedule_definition AS newer
      JOIN mainstay.schedule_declaration AS other ON other.definition = newer.id
      JOIN mainstay.worker ON worker.id = other.worker
      WHERE newer.schedule = mine.schedule AND newer.id > mine.id AND worker.alive_until > now())
