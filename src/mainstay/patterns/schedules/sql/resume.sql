-- Fire this schedule again; where it was paused, from this tick on. Its next tick.
UPDATE mainstay.schedule
SET next_at = CASE WHEN paused THEN :next::timestamptz ELSE next_at END, paused = false
WHERE name = :name::text
RETURNING next_at
