"""The page of each pattern: complete, and its code runs as printed."""

from __future__ import annotations

import ast
import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
from pattern_models import Account, Document, Entry

import mainstay.patterns
from mainstay.architect.catalog import read_page
from mainstay.patterns import Database

PAGES = sorted(Path(mainstay.patterns.__file__).parent.rglob("*.md"))
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
        code = compile(block, file.name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        if (running := eval(code, names)) is not None:
            await running
    listener.close()
