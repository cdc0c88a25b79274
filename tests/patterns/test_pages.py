"""The page of each pattern: complete, and its code runs as printed."""

from __future__ import annotations

import ast
import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pattern_models import Account, Document, Entry

import mainstay.patterns
from mainstay.architect.catalog import read_page
from mainstay.patterns import Database

PAGES = sorted(Path(mainstay.patterns.__file__).parent.rglob("*.md"))
ROOT = Path(__file__).parents[2]
PREAMBLE = """from __future__ import annotations

from pattern_models import Account, Document, Entry
from mainstay.patterns import Database
{}


async def page(db: Database, ann: int, provider_url: str) -> None:
    {}
"""
"""What `names` below are to a type checker. A class in a function is checked like any other."""
SECTIONS = ["Situation", "What it does", "Use", "When the process dies here", "Limits", "Sources"]


@pytest.mark.parametrize("file", PAGES, ids=lambda file: file.stem)
def test_a_page_has_all_parts(file: Path) -> None:
    """Title, sources, and the same sections in the same order."""
    page = read_page(file, file.stem)
    assert page.title and page.meta["sources"]
    assert re.findall(r"^## (.+)$", page.text, re.MULTILINE) == SECTIONS


def blocks(file: Path) -> list[str]:
    """The Python code of a page, block by block; every page has some."""
    found = re.findall(r"^```python\n(.*?)^```", file.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert found
    return found


def test_the_code_of_the_pages_is_typed(tmp_path: Path) -> None:
    """mypy has no complaint in its strict mode, so that whoever copies an example begins without any."""
    for file in PAGES:
        lines = "\n".join(blocks(file)).splitlines()
        imports = [line for line in lines if line.startswith(("from ", "import "))]
        rest = [line for line in lines if line not in imports]
        (tmp_path / f"page_{file.stem}.py").write_text(
            PREAMBLE.format("\n".join(imports), "\n    ".join(rest))
        )
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--no-error-summary",
            "--hide-error-context",
            str(tmp_path),
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "MYPYPATH": str(Path(__file__).parent)},
    )
    assert not [line for line in run.stdout.splitlines() if "page_" in line], run.stdout
    assert not run.stderr


@pytest.mark.parametrize("file", PAGES, ids=lambda file: file.stem)
async def test_the_code_of_a_page_runs(db: Database, file: Path) -> None:
    """Given a database `db`, the models of these tests, an account `ann` with 100, and a provider."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with db.transaction() as tx:
        account = Account(owner="ann", balance=100)
        tx.add(account)
    names: dict[str, Any] = {
        "db": db,
        "Account": Account,
        "Entry": Entry,
        "Document": Document,
        "ann": account.id,
        "provider_url": f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}",
    }
    for block in blocks(file):
        code = compile(block, file.name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        if (running := eval(code, names)) is not None:
            await running
    listener.close()
