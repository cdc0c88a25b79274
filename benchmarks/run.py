"""Runs every benchmark and writes ``docs/benchmarks.md``: ratios against named peers, measured in this one run.

    make bench                     all of them
    python benchmarks/run.py review diagnose

Each benchmark is a script beside this one that prints a Markdown section. Absolute figures are of this machine
on this day; only the ratios within one run mean anything elsewhere.
"""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
SECTIONS = sorted(file.stem for file in HERE.glob("*.py") if file.stem not in ("run", "measure"))


def main() -> None:
    chosen = sys.argv[1:] or SECTIONS
    if unknown := [name for name in chosen if name not in SECTIONS]:
        sys.exit(f"there is no benchmark {unknown[0]!r}; choose from: {', '.join(SECTIONS)}")
    parts = [
        "# Benchmarks\n\nWritten by `make bench`; no test asserts any of it. Only the ratios of one run count.\n",
        f"Run on {datetime.datetime.now(datetime.UTC):%Y-%m-%d}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}, load {os.getloadavg()[0]:.1f} at the start.\n",
    ]
    for name in chosen:
        print(f"== {name}", file=sys.stderr, flush=True)
        done = subprocess.run(
            [sys.executable, HERE / f"{name}.py"],
            stdout=subprocess.PIPE,
            text=True,
            check=False,
            timeout=3600,
        )
        parts.append(
            done.stdout if done.returncode == 0 else f"## {name}\n\nnot run: exit code {done.returncode}\n"
        )
    text = "\n".join(parts)
    print(text)
    if not sys.argv[1:]:
        (HERE.parent / "docs" / "benchmarks.md").write_text(text)


if __name__ == "__main__":
    main()
