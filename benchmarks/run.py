"""Runs every benchmark and writes ``docs/benchmarks.md``: ratios against named peers, measured in this one run.

    make bench                                    all of them
    python benchmarks/run.py review diagnose      these, printed only
    python benchmarks/run.py --write messages     these, each in place of its section in the document

Each benchmark is a script beside this one, or a folder with a ``__main__.py``, that prints a Markdown section.
Absolute figures are of this machine on this day; only the ratios within one run mean anything elsewhere.
"""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
DOCUMENT = HERE.parent / "docs" / "benchmarks.md"
SCRIPTS = {file.stem: file for file in HERE.glob("*.py") if file.stem not in ("run", "measure")}
SCRIPTS |= {file.parent.name: file.parent for file in HERE.glob("*/__main__.py")}
SECTIONS = sorted(SCRIPTS)
LIMIT = 2 * 3600  # seconds a benchmark may take
HEAD = (
    "# Benchmarks\n\nWritten by `make bench`; no test asserts any of it. Only the ratios of one run count.\n"
)


def section(name: str) -> str:
    """Run one benchmark; its Markdown, with the day and the machine under the heading."""
    print(f"== {name}", file=sys.stderr, flush=True)
    ran = (
        f"Run on {datetime.datetime.now(datetime.UTC):%Y-%m-%d}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}, load {os.getloadavg()[0]:.1f} at the start."
    )
    try:
        done = subprocess.run(
            [sys.executable, SCRIPTS[name]], stdout=subprocess.PIPE, text=True, check=False, timeout=LIMIT
        )
    except subprocess.TimeoutExpired:
        return f"## {name}\n\n{ran}\n\nnot run: not done within {LIMIT} s\n"
    if done.returncode:
        return f"## {name}\n\n{ran}\n\nnot run: exit code {done.returncode}\n"
    heading, _, rest = done.stdout.strip().partition("\n")
    return f"{heading}\n\n{ran}\n\n{rest.strip()}\n"


def replaced(document: str, sections: list[str]) -> str:
    """The document with these sections in place of those with the same heading, or at its end."""
    for new in sections:
        heading = new.partition("\n")[0]
        start = f"\n{document}".find(f"\n{heading}\n")
        if start < 0:
            document = f"{document.rstrip()}\n\n{new}"
            continue
        end = document.find("\n## ", start + 1)
        document = document[:start] + new + (document[end:] if end >= 0 else "")
    return document


def main() -> None:
    arguments = sys.argv[1:]
    write = "--write" in arguments
    chosen = [name for name in arguments if name != "--write"]
    if unknown := [name for name in chosen if name not in SECTIONS]:
        sys.exit(f"there is no benchmark {unknown[0]!r}; choose from: {', '.join(SECTIONS)}")
    parts = [section(name) for name in chosen or SECTIONS]
    print("\n".join(parts))
    if not chosen:
        DOCUMENT.write_text("\n".join([HEAD, *parts]))
    elif write:
        DOCUMENT.write_text(replaced(DOCUMENT.read_text(), parts))


if __name__ == "__main__":
    main()
