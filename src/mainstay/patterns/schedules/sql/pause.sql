-- Fire no tick of this schedule.
UPDATE mainstay.schedule SET paused = true WHERE name = :name::text
