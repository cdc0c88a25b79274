"""The rows of the tables: every peer at its version, at the settings its own documents recommend for speed."""

from __future__ import annotations

from processes import Row

FLOOR = Row("floor", "floor", "bench-messages", "postgresql")
PGQUEUER = Row(
    "pgqueuer, batch 100", "pgqueuer", "bench-messages", "postgresql", {"batch": "100"}, enqueues=False
)
PROCRASTINATE = Row("procrastinate", "procrastinate", "bench-messages", "postgresql", count=4_000)
DBOS = Row("dbos", "dbos", "bench-messages", "postgresql", count=4_000, gap=1.1)
CELERY = Row("celery", "celery", "bench-messages", "redis", count=4_000)
ARQ = Row(
    "arq, max_jobs 100", "arq", "bench-messages-arq", "redis", {"max_jobs": "100"}, count=4_000, gap=0.6
)
TASKIQ = Row("taskiq", "taskiq", "bench-messages", "redis")
MAINSTAY = Row("mainstay", "mainstay", "mainstay", "postgresql")

THROUGHPUT = [
    FLOOR,
    MAINSTAY,
    Row("pgqueuer, batch 25", "pgqueuer", "bench-messages", "postgresql", {"batch": "25"}),
    PGQUEUER,
    PROCRASTINATE,
    DBOS,
    CELERY,
    ARQ,
    Row(
        "arq, max_jobs 10",
        "arq",
        "bench-messages-arq",
        "redis",
        {"max_jobs": "10"},
        enqueues=False,
        count=1000,
    ),
    TASKIQ,
]

CRASH: list[tuple[Row, dict[str, str]]] = [
    (MAINSTAY, {}),
    (Row("mainstay, lease 5 s", "mainstay", "mainstay", "postgresql", {"lease": "5"}), {}),
    (Row("pgqueuer", "pgqueuer", "bench-messages", "postgresql"), {}),
    (Row("pgqueuer, concurrency_limit 4", "pgqueuer", "bench-messages", "postgresql", {"limit": "4"}), {}),
    (PROCRASTINATE, {}),
    (Row("dbos, same executor id", "dbos", "bench-messages", "postgresql"), {}),
    (Row("dbos, another executor id", "dbos", "bench-messages", "postgresql"), {"executor": "other"}),
    (CELERY, {}),
    (Row("celery, late acks", "celery", "bench-messages", "redis", {"late": "1"}), {}),
    (Row("arq", "arq", "bench-messages-arq", "redis"), {}),
    (TASKIQ, {}),
]
"""Each with the settings of the second worker that differ from the first's."""
