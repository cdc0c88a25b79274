"""messages: the durable-message engine beside queues on PostgreSQL and Redis, in one run on own servers.

    python benchmarks/messages                          everything: some 40 minutes
    python benchmarks/messages --quick                  small counts, one round: some 5 minutes, rough
    python benchmarks/messages --only mainstay,pgqueuer --table tmpfs,crash
    python benchmarks/messages --lock                   lock the peers' requirements anew

Prints a Markdown section; --json FILE keeps every single measurement besides. What is measured, and how, stands
under the tables it prints.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(1, str(Path(__file__).parents[1]))  # measure.py

if __name__ == "__main__":
    from report import main

    main()
