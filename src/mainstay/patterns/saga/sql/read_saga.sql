-- One locked saga with its steps.
SELECT id, kind, key, lock, queue, state::text, step, version, data::text, requested, because,
       extract(epoch FROM deadline - clock_timestamp())::float8,
       (SELECT installation.id::text FROM mainstay.installation),
       (SELECT message.id FROM mainstay.message WHERE message.unique_key = 'mainstay.saga:' || saga.id),
       (SELECT json_agg(json_build_object('position', position, 'name', name, 'state', state, 'pivot', pivot,
                                          'undoable', undoable, 'begun', begun_at IS NOT NULL) ORDER BY position)::text
        FROM mainstay.saga_step WHERE saga = saga.id)
FROM mainstay.saga AS saga WHERE id = :id::bigint
