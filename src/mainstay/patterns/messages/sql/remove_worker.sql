-- A worker has ended in good order and holds no lease any more.
DELETE FROM mainstay.worker WHERE id = :worker::bigint
