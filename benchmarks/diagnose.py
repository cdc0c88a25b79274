"""diagnose: schedules and seconds until the withdraw race is proven, and until its safe version is cleared.

Balance 100, two requests of 80, over HTTP, no invariant. Targets: at most 5 schedules and 0.5 s of racing to
prove, at most 20 schedules and 2 s to clear; frontrun 0.7.0 took 14-16 executions and 2.4-2.7 s to prove, and
332-359 executions and 31-42 s to clear the same pair, called directly and with workers, reset and invariant
written by hand (measured in November 2026 on a busy machine; its counts are what to compare).
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from pathlib import Path

from measure import run, table

ROOT = Path(__file__).parents[1]
SCENARIO = ROOT / "src/mainstay/architect/sharp_edges/check_then_act/scenario.yaml"
MAINSTAY = Path(sys.executable).parent / "mainstay"
REPEAT = 5


def main() -> None:
    rows = []
    for service, goal in (
        ("sharp", "proven, ≤ 5 schedules, < 0.5 s racing"),
        ("safe", "cleared, ≤ 20, < 2 s racing"),
    ):
        seen = []
        for _ in range(REPEAT):
            with tempfile.TemporaryDirectory() as folder:
                command = [
                    "python",
                    "-m",
                    "uvicorn",
                    f"{service}:app",
                    "--host",
                    "127.0.0.1",
                    "--port",
                    "$PORT",
                ]
                options = ["--select", "check-then-act", "-f", "json", "-q", "--witnesses", folder]
                one = run([MAINSTAY, "diagnose", SCENARIO, *options, "--", *command])
                report = json.loads(one.output)
                verdicts = [finding["verdict"] for finding in report["findings"]]
                verdicts += [check["verdict"] for check in report["checks"]]
                seen.append((verdicts, report["statistics"], one.seconds))
        verdicts = sorted({verdict for found, _, _ in seen for verdict in found})
        schedules = [int(figures["schedules"]) for _, figures, _ in seen]
        racing = statistics.median(figures["racing seconds"] for _, figures, _ in seen)
        whole = statistics.median(seconds for _, _, seconds in seen)
        rows.append(
            [service, ", ".join(verdicts), f"{max(schedules)}", f"{racing:.2f}", f"{whole:.1f}", goal]
        )
    heading = [
        "withdraw",
        f"verdict ({REPEAT} of {REPEAT})",
        "schedules",
        "racing s",
        "whole process s",
        "target",
    ]
    print("## Diagnose: the withdraw race\n")
    print(table(heading, rows))
    print(
        "Racing: from the first request of a schedule to its judgement, fresh databases included; medians.\n"
    )


if __name__ == "__main__":
    main()
