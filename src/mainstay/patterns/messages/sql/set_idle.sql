-- Whether this worker wants to be woken by NOTIFY.
UPDATE mainstay.worker SET idle = :idle::boolean WHERE id = :worker::bigint
