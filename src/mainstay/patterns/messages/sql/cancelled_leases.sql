-- Which messages of this worker someone wants cancelled.
SELECT id, lease FROM mainstay.message WHERE leased_by = :worker::bigint AND state = 'running' AND cancel_requested
