-- A worker begins: its leases are alive for :lease seconds from now.
INSERT INTO mainstay.worker (name, alive_until, info)
VALUES (:name::text, now() + make_interval(secs => :lease::float8), :info::text::jsonb)
RETURNING id
