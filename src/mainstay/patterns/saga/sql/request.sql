-- Ask a saga whose step is at work for something, to be done when the step's attempt has ended.
UPDATE mainstay.saga SET requested = :requested::text, because = :because::text, data = data || coalesce(:data::text::jsonb, '{}')
WHERE id = :id::bigint
