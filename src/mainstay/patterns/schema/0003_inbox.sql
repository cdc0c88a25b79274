-- The inbox: which events each consumer has handled, so that it handles none of them twice.

CREATE TABLE mainstay.inbox (
    consumer text NOT NULL,
    source text NOT NULL,       -- source and id name an event (CloudEvents 1.0.2)
    id text NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (consumer, source, id)
);

-- For pruning, which goes by age.
CREATE INDEX inbox_received_at ON mainstay.inbox (received_at);
