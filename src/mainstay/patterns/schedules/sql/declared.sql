-- How many definitions this worker declares.
SELECT count(*) FROM mainstay.schedule_declaration WHERE worker = :worker::bigint
