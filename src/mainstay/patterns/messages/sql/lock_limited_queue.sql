-- Lock a limited queue for this lease. No row where another worker is leasing from it this moment.
SELECT name FROM mainstay.queue WHERE name = :queue::text FOR UPDATE SKIP LOCKED
