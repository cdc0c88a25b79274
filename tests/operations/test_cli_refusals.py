"""What cannot work ends in one sentence that says what to do, and never in a traceback of ours."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from operations_help import Ended, Program

Mainstay = Callable[..., Ended]
Start = Callable[..., Program]

VERBS = ["messages stats", "sagas list", "schedules list", "subscriptions list", "db status", "db upgrade"]


@pytest.mark.parametrize("verb", VERBS)
def test_no_database_is_named(verb: str, mainstay: Mainstay) -> None:
    """The two ways to name one are told."""
    assert "Set DATABASE_URL, or give --database-url" in mainstay(*verb.split(), database=None).refusal


@pytest.mark.parametrize(
    ("database", "says"),
    [
        ("postgresql://u:secret@127.0.0.1:1/x", "postgresql+psycopg://u:***@127.0.0.1:1/x cannot be reached"),
        (
            "postgresql+asyncpg://u:secret@127.0.0.1:1/x",
            "postgresql+asyncpg://u:***@127.0.0.1:1/x cannot be reached",
        ),
        ("mysql://u:secret@127.0.0.1/x", "speaks PostgreSQL through psycopg or asyncpg, not 'mysql'"),
        ("no url", "the database URL cannot be read"),
    ],
)
def test_a_database_that_cannot_be_reached(database: str, says: str, mainstay: Mainstay) -> None:
    """Where it was looked for is told, its password is not."""
    refusal = mainstay("messages", "list", database=database).refusal
    assert says in refusal and "secret" not in refusal


@pytest.mark.parametrize("driver", ["postgresql", "postgresql+asyncpg"])
def test_a_database_that_is_not_there(driver: str, url: str, mainstay: Mainstay) -> None:
    """The server's own words are told."""
    elsewhere = f"{driver}{url.removeprefix('postgresql')}_elsewhere"
    assert "does not exist" in mainstay("messages", "list", database=elsewhere).refusal


@pytest.mark.parametrize("verb", VERBS[:4])
def test_the_tables_are_missing(verb: str, bare: str, mainstay: Mainstay) -> None:
    """The command that makes them is told."""
    assert "run `mainstay db upgrade`" in mainstay(*verb.split(), database=bare).refusal


def test_the_role_may_not(url: str, mainstay: Mainstay) -> None:
    """PostgreSQL's reason is told."""
    role = f"mainstay_operations_nobody_{os.getpid()}"
    with psycopg.connect(url, autocommit=True) as server:
        server.execute(f"DROP ROLE IF EXISTS {role}")
        server.execute(f"CREATE ROLE {role} LOGIN")
        try:
            refusal = mainstay("messages", "list", database=url.replace("postgres@", f"{role}@")).refusal
        finally:
            server.execute(f"DROP ROLE {role}")
    assert "permission denied" in refusal


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("app", "names no app; write module:attribute"),
        (":messages", "names no app"),
        ("app:", "names no app"),
        ("nowhere:messages", "there is no module 'nowhere'"),
        ("app.inner:messages", "there is no module 'app.inner'"),
        ("app:massages", "module 'app' has no attribute 'massages' (did you mean 'messages'?)"),
        ("app:xyzzy", "has no attribute 'xyzzy' (its Messages: messages)"),
        ("app:number.nothing", "the int there has no attribute 'nothing'"),
        ("app:number", "is a int; name a Messages"),
        ("app:make_nothing", "returns a int; name a Messages"),
    ],
)
def test_an_app_that_is_not_there(target: str, says: str, start: Start) -> None:
    """What was found instead is told."""
    assert says in start("worker", target).wait().refusal


@pytest.mark.parametrize(
    ("code", "last"),
    [
        ("import nowhere_to_be_found", "ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def broken(:", "SyntaxError: invalid syntax"),
        ("raise SystemExit(0)", "SystemExit: 0"),
    ],
)
def test_an_app_whose_import_fails_shows_its_own_traceback(
    code: str, last: str, start: Start, folder: Path
) -> None:
    """From its own first line on: none of ours, none of the import system's."""
    (folder / "broken.py").write_text(code)
    ended = start("worker", "broken:messages").wait()
    assert ended.code == 2
    *told, sentence = ended.err.splitlines()
    assert sentence == "mainstay: the module 'broken' cannot be imported: see its error above."
    assert told[-1] == last
    files = [line for line in told if line.startswith("  File ")]
    assert all("broken.py" in line for line in files)
    assert "SystemExit" in last or files


@pytest.mark.parametrize(
    "code", ["import os; os.environ['SHOP_URL']", "import os\ndef make(): os.environ['SHOP_URL']"]
)
def test_a_variable_that_the_app_needs_is_named(code: str, start: Start, folder: Path) -> None:
    """What a fresh machine usually lacks, whether the module asks for it or the function that makes the app."""
    (folder / "needy.py").write_text(code)
    ended = start("worker", "needy:make").wait()
    assert ended.code == 2
    assert ended.err.splitlines()[-1].endswith(": the environment variable SHOP_URL is not set.")


def test_a_function_that_fails_to_make_the_app_shows_its_traceback(start: Start) -> None:
    """As an import does."""
    ended = start("worker", "app:fail").wait()
    assert ended.code == 2
    assert ended.err.splitlines()[-2:] == [
        "RuntimeError: no settings here",
        "mainstay: 'app:fail' could not be made: calling it failed.",
    ]
    assert "target.py" not in ended.err


def test_a_worker_without_its_database(start: Start) -> None:
    """It is refused at the start, where someone is looking."""
    gone = "postgresql://postgres@127.0.0.1:1/x"
    assert "cannot be reached" in start("worker", "app:messages", database=gone).wait().refusal


def test_a_worker_without_tables(start: Start, bare: str) -> None:
    """The command that makes them is told, once."""
    several = start("worker", "app:messages", "--processes", "2", database=bare)
    assert "run `mainstay db upgrade`" in several.wait().refusal


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--queues", "mial"], "there is no queue 'mial' (did you mean 'mail'?)"),
        (["--processes", "0"], "--processes"),
        (["--concurrency", "0"], "--concurrency"),
        (["--lease", "0"], "--lease"),
        (["--grace", "-1"], "--grace"),
        (["--health", "here"], "--health takes PORT or HOST:PORT"),
        (["--health", "99999"], "--health cannot listen on 99999"),
        (["--log-level", "loud"], "--log-level"),
    ],
)
def test_options_of_a_worker(arguments: list[str], says: str, start: Start) -> None:
    """A wrong one is told before anything is leased."""
    assert says in start("worker", "app:messages", *arguments).wait().refusal


def test_an_app_without_handlers(start: Start, folder: Path) -> None:
    """There would be nothing to do."""
    (folder / "idle.py").write_text(
        "from mainstay.patterns import Database\nfrom mainstay.patterns.messages import Messages\n"
        "import os\nmessages = Messages(Database(os.environ['DATABASE_URL']))\n"
    )
    assert "there is nothing to do" in start("worker", "idle:messages").wait().refusal
