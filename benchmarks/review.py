"""review: source lines a CPU second and peak memory, cold and warm, beside ruff, bandit and semgrep on the same trees.

The trees are wheels of public backends, fetched by name and exact version into ``benchmarks/.trees``; the peers
live in an environment of their own, ``.venv-bench``, locked with hashes. semgrep needs a folder of rules in
``SEMGREP_RULES`` (the Python rules of its public rule set); it is left out where that is not set, and runs on
the smallest tree only, because it takes minutes there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from measure import run, table

ROOT = Path(__file__).parents[1]
TREES = Path(__file__).parent / ".trees"
PEERS = ROOT / ".venv-bench" / "bin"
PACKAGES = ["argilla-server==2.8.0", "pretix==2026.8.0", "nova==34.0.0"]


def tree(requirement: str) -> Path:
    """The unpacked wheel of a requirement."""
    folder = TREES / requirement.replace("==", "-")
    if not folder.is_dir():
        download = TREES / "wheels" / folder.name
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", download, requirement],
            check=True,
        )
        with zipfile.ZipFile(next(download.glob("*.whl"))) as wheel:
            wheel.extractall(folder)
    return folder


def lines(folder: Path) -> int:
    return sum(file.read_bytes().count(b"\n") for file in folder.rglob("*.py"))


def peers() -> None:
    """Make the peers' environment."""
    if not (PEERS / "bandit").exists():
        subprocess.run([sys.executable, "-m", "venv", PEERS.parent], check=True)
        wanted = ROOT / "requirements" / "bench.txt"
        subprocess.run(
            [PEERS / "python", "-m", "pip", "install", "-q", "--require-hashes", "-r", wanted], check=True
        )


def version(command: list[str | Path]) -> str:
    return (
        subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")[0].split()[-1]
    )


def main() -> None:
    peers()
    folders = [tree(package) for package in PACKAGES]
    everything = TREES / "everything"
    if not everything.is_dir():
        for folder in folders:
            shutil.copytree(folder, everything / folder.name)
    cache = TREES / "cache"
    mainstay, ruff = ROOT / ".venv/bin/mainstay", ROOT / ".venv/bin/ruff"
    rules = os.environ.get("SEMGREP_RULES")
    rows = []
    for folder in (*folders, everything):
        size = lines(folder)
        shutil.rmtree(cache, ignore_errors=True)
        ours: list[str | Path] = [
            "env",
            f"XDG_CACHE_HOME={cache}",
            mainstay,
            "review",
            folder,
            "-f",
            "json",
            "-q",
        ]
        ruffs = [
            ruff,
            "check",
            folder,
            "--isolated",
            "--no-cache",
            "-q",
            "--select",
            "S,ASYNC,DJ,B,BLE,RUF006,PERF",
        ]
        commands = [
            (f"mainstay {version([mainstay, '--version'])}, cold", ours),
            ("mainstay, warm", ours),
            (f"ruff {version([ruff, '--version'])}", ruffs),
            (
                f"bandit {version([PEERS / 'bandit', '--version'])}",
                [PEERS / "bandit", "-q", "-r", folder, "-f", "json"],
            ),
        ]
        if rules and folder is folders[0]:
            semgrep = [
                PEERS / "semgrep",
                "scan",
                "--metrics",
                "off",
                "--config",
                rules,
                "--json",
                "-q",
                folder,
            ]
            commands.append((f"semgrep {version([PEERS / 'semgrep', '--version'])}", semgrep))
        measured = [(name, run(command)) for name, command in commands]
        cold = size / measured[0][1].cpu_seconds
        for name, one in measured:
            speed = size / one.cpu_seconds
            rows.append(
                [
                    folder.name,
                    f"{size:,}",
                    name,
                    f"{one.seconds:.1f}",
                    f"{one.cpu_seconds:.1f}",
                    f"{speed:,.0f}",
                    f"{cold / speed:.2f}×",
                    f"{one.peak_mb:.0f}",
                ]
            )
    heading = ["tree", "lines", "tool", "s", "CPU s", "lines / CPU s", "mainstay cold is", "peak MB"]
    print("## Review\n")
    print(table(heading, rows))


if __name__ == "__main__":
    main()
