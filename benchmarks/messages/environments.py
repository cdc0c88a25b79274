"""The peers' environments, apart from Mainstay's own: made from hash-locked requirements.

arq 0.28.0 wants redis below 6 and celery 5.7.0 (kombu) redis 6.4 or newer, so arq has an environment to itself.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".venv-bench"
PEERS = {
    "bench-messages": [
        "pgqueuer[asyncpg,psycopg]==1.6.0",
        "procrastinate==3.10.0",
        "dbos==3.4.0",
        "celery[redis]==5.7.0",
        "taskiq==0.13.0",
        "taskiq-redis==1.2.4",
        "redis[hiredis]",
        "sqlalchemy[asyncio]",
    ],
    "bench-messages-arq": ["arq==0.28.0"],
}


def lock() -> None:
    """Write ``requirements/bench-messages*.txt`` anew, with hashes and without index addresses."""
    for name, wanted in PEERS.items():
        command = [Path(sys.executable).parent / "uv", "pip", "compile", "--quiet", "--universal"]
        command += ["--python-version", "3.11", "--generate-hashes", "--no-emit-index-url"]
        command += ["--no-annotate", "--no-header", "-", "-o", ROOT / "requirements" / f"{name}.txt"]
        subprocess.run(command, input="\n".join(wanted), text=True, check=True, stdout=subprocess.DEVNULL)


def python(name: str) -> Path:
    """The interpreter of an environment; `mainstay` is the one this runs in."""
    if name == "mainstay":
        return Path(sys.executable)
    wanted = ROOT / "requirements" / f"{name}.txt"
    digest = hashlib.sha256(wanted.read_bytes()).hexdigest()
    folder = FOLDER / name
    interpreter, mark = folder / "bin" / "python", folder / "made-from"
    if not (mark.exists() and mark.read_text() == digest):
        print(f"making the environment of {wanted.name}", file=sys.stderr, flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        install = [interpreter, "-m", "pip", "install", "-q", "--require-hashes", "-r", wanted]
        subprocess.run(install, check=True, stdout=sys.stderr)
        mark.write_text(digest)
    return interpreter
