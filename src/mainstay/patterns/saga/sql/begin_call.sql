-- A call outside is about to be made: from now on nobody knows whether it happened, until its outcome is stored.
UPDATE mainstay.saga_step SET state = 'begun', begun_at = now()
WHERE saga = :id::bigint AND name = :step::text AND state = 'pending'
