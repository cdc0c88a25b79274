"""A long campaign of the simulation against the formulas: how far apart they are, over many random blueprints.

    .venv/bin/python tests/design/judge.py --write          # and puts the table into docs/design-formulas.md
    .venv/bin/python tests/design/judge.py --show 48        # one blueprint: its text, and every row of it

Blueprints are made from seeds, and each is simulated with its own: whatever lies outside is printed with its seed and
with the text of its blueprint, and comes again with ``--show``.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import yaml
from blueprint_random import blueprint, study_of

from mainstay.architect.design.simulation import Row, judge

PAGE = Path(__file__).parents[2] / "docs" / "design-formulas.md"
BEGIN, END = "<!-- measured by tests/design/judge.py -->\n", "<!-- end of what was measured -->\n"


def rows_of(seed: int, seconds: float, steps: int) -> list[Row]:
    """Every row of one random blueprint."""
    return judge(study_of(blueprint(seed)), seconds, seed, steps)


def campaign(seeds: range, seconds: float, steps: int, jobs: int, minutes: float) -> dict[int, list[Row]]:
    """The rows of many blueprints, by seed; of as many as there is time for."""
    until = time.monotonic() + minutes * 60
    found: dict[int, list[Row]] = {}
    with ProcessPoolExecutor(jobs) as pool:
        begun = {seed: pool.submit(rows_of, seed, seconds, steps) for seed in seeds}
        for seed, future in begun.items():
            try:
                found[seed] = future.result(max(0.0, until - time.monotonic()))
            except TimeoutError:
                pool.shutdown(wait=False, cancel_futures=True)
                break
            for row in found[seed]:
                if not row.holds:
                    print(f"\nseed {seed}: {_told(row)}\n{text_of(seed)}", flush=True)
    return found


def text_of(seed: int) -> str:
    """The blueprint of a seed, as it would be written."""
    return yaml.safe_dump(blueprint(seed), sort_keys=False, width=120)


def report(found: dict[int, list[Row]], command: str) -> str:
    """What was measured, as a section of the page."""
    rows: defaultdict[str, list[Row]] = defaultdict(list)
    outside = []
    for seed, of_one in found.items():
        for row in of_one:
            rows[row.what.split(",")[0]].append(row)
            if not row.holds:
                outside.append(f"- seed {seed}: {_told(row)}")
    lines = [
        f"`{command}`: {len(found)} random blueprints, {sum(map(len, found.values()))} rows, {len(outside)} outside.",
        "",
        "| number | kind | rows | outside | median of simulated / formula - 1 | 5 % and 95 % |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for what, those in rows.items():
        apart = sorted(row.simulated / row.formula_value - 1 for row in those if row.formula_value)
        low, middle, high = (f"{apart[int(share * (len(apart) - 1))]:+.1%}" for share in (0.05, 0.5, 0.95))
        kind = "at most" if all(row.bound for row in those) else "estimate"
        wrong = sum(not row.holds for row in those)
        lines.append(f"| {what} | {kind} | {len(those)} | {wrong} | {middle} | {low} … {high} |")
    loose = [row for of_one in found.values() for row in of_one if "said to not nest" in row.what]
    seen = sum(row.simulated > 0 for row in loose)
    lines += [
        "",
        f"Of {len(loose)} pairs of an operation whose timeouts are said not to nest and a dependency that never "
        f"answers, a caller gave up while the operation was at work in {seen}; in the others it takes more than one "
        "that is late.",
        "",
        *(["Outside:", "", *outside] if outside else ["None lay outside."]),
    ]
    return "\n".join(lines) + "\n"


def write(text: str) -> None:
    """Put what was measured into the page."""
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(
        re.sub(f"(?s)({re.escape(BEGIN)}).*({re.escape(END)})", lambda at: at[1] + text + at[2], page),
        "utf-8",
    )


def _told(row: Row) -> str:
    most = " at most" if row.bound else ""
    return (
        f"{row.subject}, {row.what}: computed {row.formula_value:.4g}{most}, counted {row.simulated:.4g}, "
        f"tolerance {row.tolerance:.3g}"
    )


def main() -> int:
    """Run a campaign, or show one blueprint. 1 where something lies outside."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--blueprints", type=int, default=150, help="how many (default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=30, help="simulated at peak (default: %(default)s)")
    parser.add_argument(
        "--steps", type=int, default=20_000, help="most runs in one regime (default: %(default)s)"
    )
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: %(default)s)")
    parser.add_argument(
        "--minutes", type=float, default=60, help="no longer than that (default: %(default)s)"
    )
    parser.add_argument("--write", action="store_true", help=f"put the result into docs/{PAGE.name}")
    parser.add_argument("--show", type=int, metavar="SEED", help="one blueprint and all its rows")
    chosen = parser.parse_args()
    if chosen.show is not None:
        print(text_of(chosen.show))
        found = {chosen.show: rows_of(chosen.show, chosen.seconds, chosen.steps)}
        for row in found[chosen.show]:
            print(f"{'holds' if row.holds else 'OUTSIDE':8}{_told(row)}")
    else:
        seeds = range(chosen.first, chosen.first + chosen.blueprints)
        found = campaign(seeds, chosen.seconds, chosen.steps, chosen.jobs, chosen.minutes)
        command = f"tests/design/judge.py --blueprints {len(found)} --first {chosen.first}"
        command += f" --seconds {chosen.seconds:g} --steps {chosen.steps}"
        text = report(found, command)
        print(text)
        if chosen.write:
            write(text)
    return int(any(not row.holds for rows in found.values() for row in rows))


if __name__ == "__main__":
    sys.exit(main())
