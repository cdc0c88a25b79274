"""How long `mainstay design` takes: forty lines as a whole process, and 200 services with 2,000 operations.

    python benchmarks/design.py            # both, each as a process of its own, median of several runs
    python benchmarks/design.py --write large.yaml   # the large blueprint alone

The large system is generated, the same one every time: each service owns two entities and does ten operations, calls
services after it, emits and handles events, and calls one of forty outside systems.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
FORTY = HERE.parent / "examples" / "blueprints" / "order-management.yaml"
MAINSTAY = Path(sys.executable).parent / "mainstay"
SERVICES, OUTSIDE = 200, 40
RUNS = 15
ASKED = ("wall ≤ 300", "wall ≤ 5,000, RSS ≤ 500", "wall ≤ 5,000, RSS ≤ 500")


def large() -> str:
    """A blueprint of `SERVICES` services with ten operations each."""
    lines = [
        "blueprint: large",
        "needs: {availability: 99.9%, p99: 800ms, team: 120, region: eu}",
        "actors:",
        "  person: {auth: oidc, limit: 5/s}",
        "  staff: {auth: oidc, roles: [agent]}",
        "depends:",
    ]
    lines += [
        f"  outside_{n}: {{availability: 99.95%, p99: {200 + n}ms, limit: {50 + n}/s, idempotency: header}}"
        for n in range(OUTSIDE)
    ]
    lines.append("services:")
    for n in range(SERVICES):
        name, entity = f"service_{n}", f"Thing{n}"
        after = [f"service_{m}" for m in (n + 1, n + 7, n + 31) if m < SERVICES]
        calls = ", ".join(f"{other}.get_thing" for other in after[:2])
        writes = ", ".join(f"{other}.reserve" for other in after[2:])
        lines += [
            f"  {name}:",
            "    owns:",
            f"      {entity}: {{id: uuid, owner: uuid, email: email pii, total: money, "
            "status: open > paid > sent; open > cancelled}",
            f"      Part{n}: {{sku: text, stock: int >=0}}",
            "    does:",
            f"      place_thing: {{by: person, takes: {{total: money}}, gives: {entity} | TooMany, "
            f"load: {n % 40 + 1}/s, idempotent: key, emits: Placed{n}, "
            f"calls: [{', '.join(filter(None, [calls, writes]))}]}}",
            f"      get_thing: {{by: person own, gives: {entity}, load: {n % 90 + 10}/s, timeout: 300ms}}",
            f"      list_things: {{by: person own, gives: {entity}*, page: 50, load: 5/s}}",
            f"      search_things: {{by: staff, takes: {{q: text}}, gives: {entity}*, page: 50, load: 1/s}}",
            f"      pay: {{on: Placed{n}, moves: {entity} paid, calls: [outside_{n % OUTSIDE} within 2s retry 2], "
            f"emits: Paid{n}}}",
            f"      send: {{on: Paid{n}, moves: {entity} sent}}",
            f"      cancel: {{by: staff, moves: {entity} cancelled, emits: Cancelled{n}}}",
            f"      reserve: {{takes: {{quantity: int >0}}, changes: Part{n}.stock, undo: release, timeout: 200ms}}",
            f"      release: {{on: Cancelled{n}, changes: Part{n}.stock}}",
            f"      erase: {{every: 1d, deletes: {entity}}}",
        ]
    return "\n".join(lines) + "\n"


def measure(command: list[str], runs: int) -> tuple[float, float, float]:
    """Median wall seconds, median CPU seconds, and the most memory (bytes) of some runs of a command."""
    walls, cpus, most = [], [], 0
    for _ in range(runs):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        began = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            _, _, usage = os.wait4(process.pid, 0)
            process.returncode = 0
        walls.append(time.perf_counter() - began)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpus.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        most = max(most, usage.ru_maxrss * 1024)
    return statistics.median(walls), statistics.median(cpus), most


def rows() -> list[tuple[str, float, float, float]]:
    """What was run, and its figures."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "large.yaml").write_text(large(), encoding="utf-8")
        package = [
            sys.executable,
            "-c",
            "import sys\nfrom pathlib import Path\n"
            "from mainstay.architect.design.generated import generate\n"
            "from mainstay.architect.design.study import study_file\n"
            "generate(study_file(Path(sys.argv[1])))",
            str(folder / "large.yaml"),
        ]
        commands = {
            "python -c pass": ([sys.executable, "-c", "pass"], RUNS),
            "forty lines": ([str(MAINSTAY), "design", str(FORTY)], RUNS),
            "2,000 operations, risks": ([str(MAINSTAY), "design", str(folder / "large.yaml")], 3),
            "2,000 operations, risks and every file but the site": (package, 3),
        }
        return [(what, *measure(command, runs)) for what, (command, runs) in commands.items()]


def main() -> None:
    """Measure, or write the large blueprint."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, help="write the large blueprint to a file, and end")
    given = parser.parse_args()
    if given.write:
        given.write.write_text(large(), encoding="utf-8")
        return
    found = rows()
    _, bare, bare_cpu, _ = found[0]
    print("## Design\n")
    print("| what | wall ms beyond `pass` | CPU ms beyond `pass` | peak RSS MB | asked |")
    print("|---|---|---|---|---|")
    for (what, wall, cpu, memory), asked in zip(found[1:], ASKED, strict=True):
        print(
            f"| {what} | {(wall - bare) * 1000:,.0f} | {(cpu - bare_cpu) * 1000:,.0f} | {memory / 1e6:.0f} | {asked} |"
        )
    print(
        f"\nWhole processes: median of {RUNS} for forty lines (`{FORTY.name}`, as text) and of 3 for a large system "
        f"({SERVICES} services, {SERVICES * 10:,} operations, generated), `python -c pass` taken off "
        f"({bare * 1000:.0f} ms wall, {bare_cpu * 1000:.0f} ms CPU). Every file: contracts, diagrams, decisions and "
        "tables, made in memory and not written."
    )


if __name__ == "__main__":
    main()
