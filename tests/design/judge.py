"""A long campaign of the simulation against the formulas: how far apart they are, over many random blueprints.

Not a test: run it by hand, and put what it prints into docs/design-formulas.md.

    .venv/bin/python tests/design/judge.py [blueprints] [seconds]
"""

from __future__ import annotations

import sys
import warnings
from collections import defaultdict

from blueprint_random import blueprints, study_of
from hypothesis.errors import NonInteractiveExampleWarning

from mainstay.architect.design.simulation import Row, judge


def main(count: int, seconds: float) -> None:
    """Print, for each number that is judged, how far simulation and formula lay apart."""
    warnings.simplefilter("ignore", NonInteractiveExampleWarning)
    rows: defaultdict[str, list[Row]] = defaultdict(list)
    strategy = blueprints()
    for at in range(count):
        for row in judge(study_of(strategy.example()), seconds, seed=at):
            rows[row.what.split(",")[0]].append(row)
    print(f"{count} blueprints, {seconds:g} s each")
    print("| number | rows | outside | median of simulated / formula - 1 | 5 % and 95 % |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for what, found in rows.items():
        apart = sorted(_apart(row) for row in found if row.formula_value)
        outside = sum(not row.holds for row in found)
        low, middle, high = (apart[int(share * (len(apart) - 1))] for share in (0.05, 0.5, 0.95))
        print(f"| {what} | {len(found)} | {outside} | {middle:+.1%} | {low:+.1%} … {high:+.1%} |")


def _apart(row: Row) -> float:
    """Of an availability what is compared is the share that fails."""
    if row.what.startswith("availability"):
        return (1 - row.simulated) / (1 - row.formula_value) - 1 if row.formula_value < 1 else 0.0
    return row.simulated / row.formula_value - 1


if __name__ == "__main__":
    main(
        int(sys.argv[1]) if len(sys.argv) > 1 else 60,
        float(sys.argv[2]) if len(sys.argv) > 2 else 20.0,
    )
