-- One message with all that is known of it, as JSON.
SELECT (to_jsonb(message) || jsonb_build_object(
    'worker', (SELECT name FROM mainstay.worker WHERE worker.id = message.leased_by),
    'idempotency_key', (SELECT installation.id FROM mainstay.installation) || '-' || message.id))::text
FROM mainstay.message WHERE message.id = :id::bigint
