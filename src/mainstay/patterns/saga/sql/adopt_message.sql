-- This message, which was called off and started over, is its locked saga's again.
UPDATE mainstay.message SET unique_key = 'mainstay.saga:' || :id::bigint WHERE id = :message::bigint AND state = 'running'
