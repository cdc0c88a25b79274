"""Servers, embedded and named by URL: the laboratory works only in databases that it made, and drops them."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from mainstay.architect.diagnose.postgres import Database, Postgres
from mainstay.architect.diagnose.proxy import Proxy
from mainstay.architect.errors import MainstayError


def url_of(postgres: Postgres, database: str = "postgres", user: str = "postgres", password: str = "") -> str:
    """A URL of the embedded server, as a user would write one."""
    return f"postgresql+psycopg://{user}:{password}@/{database}?host={postgres.host}&port={postgres.port}"


async def _names(postgres: Postgres) -> set[str]:
    async with await postgres.connect(Database("postgres")) as admin:
        return {name for (name,) in await (await admin.execute("SELECT datname FROM pg_database")).fetchall()}


async def test_a_clone_has_the_rows_of_its_template(postgres: Postgres, database: Database) -> None:
    """Also when somebody is still connected to the template: they are cut off."""
    guest = await postgres.connect(database)
    await guest.execute("CREATE TABLE item (id int); INSERT INTO item VALUES (1), (2)")
    clone = await postgres.create(database)
    async with await postgres.connect(clone) as session:
        assert await (await session.execute("SELECT count(*) FROM item")).fetchone() == (2,)
        await session.execute("DELETE FROM item")
    await postgres.drop(clone)
    async with await postgres.connect(database) as session:
        assert await (await session.execute("SELECT count(*) FROM item")).fetchone() == (2,)


async def test_closing_drops_what_was_made(postgres: Postgres) -> None:
    """Databases with sessions in them as well; those of others stay."""
    before = await _names(postgres)
    async with await Postgres.at(url_of(postgres)) as server:
        first = await server.create()
        await server.create(first)
        await server.connect(first)
        assert len(await _names(postgres) - before) == 2
        other = await psycopg.AsyncConnection.connect(server.url(first))
    assert await _names(postgres) == before
    await other.close()


async def test_a_database_with_tables_is_refused(postgres: Postgres, database: Database) -> None:
    """The sentence names the first table and what to name instead; nothing is changed."""
    async with await postgres.connect(database) as admin:
        await admin.execute('CREATE SCHEMA shop; CREATE TABLE shop."Order" (id int)')
    with pytest.raises(MainstayError) as raised:
        await Postgres.at(url_of(postgres, database.name))
    assert 'such as shop."Order"' in str(raised.value)
    assert "refuse to touch it: the laboratory only ever works in databases it created" in str(raised.value)
    assert url_of(postgres) not in str(raised.value)


async def test_tables_of_an_extension_are_no_tables_of_the_user(
    postgres: Postgres, database: Database
) -> None:
    """A database with views and tables that only an extension brought is as good as empty."""
    async with await postgres.connect(database) as admin:
        await admin.execute("CREATE TABLE came_along (id int); ALTER EXTENSION plpgsql ADD TABLE came_along")
    async with await Postgres.at(url_of(postgres, database.name)) as server:
        assert server.version >= 13


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("mysql://localhost/shop", "is not an address of PostgreSQL"),
        ("postgresql://127.0.0.1:1/postgres", "cannot reach PostgreSQL at 127.0.0.1:1"),
        ("postgresql://postgres@127.0.0.1:notaport/postgres", "is not an address of PostgreSQL"),
    ],
)
async def test_an_address_that_is_none(url: str, sentence: str) -> None:
    """One sentence with the place and the remedy."""
    with pytest.raises(MainstayError, match=sentence) as raised:
        await Postgres.at(url)
    assert "\n" not in str(raised.value)


async def test_a_user_who_may_not_create_databases(postgres: Postgres, database: Database) -> None:
    """The sentence has the command that mends it."""
    async with await postgres.connect(database) as admin:
        await admin.execute("CREATE ROLE poor LOGIN")
    with pytest.raises(MainstayError, match='ALTER ROLE "poor" CREATEDB'):
        await Postgres.at(url_of(postgres, user="poor"))
    async with await postgres.connect(database) as admin:
        await admin.execute("DROP ROLE poor")


@pytest.mark.parametrize("method", ["scram-sha-256", "md5", "password"])
async def test_the_proxy_logs_in_with_the_password_of_the_url(
    method: str, postgres: Postgres, database: Database
) -> None:
    """SCRAM, MD5 and clear text; the service itself needs no password."""
    hba = Path(postgres.host) / "pg_hba.conf"
    before = hba.read_text()
    async with await postgres.connect(database) as admin:
        await admin.execute(f"SET password_encryption = '{'md5' if method == 'md5' else 'scram-sha-256'}'")
        await admin.execute(sql.SQL("CREATE ROLE keeper LOGIN CREATEDB PASSWORD {}").format("päss'wörd"))
        hba.write_text(f"local all keeper {method}\n{before}")
        await admin.execute("SELECT pg_reload_conf()")
        try:
            with pytest.raises(MainstayError, match="password"):
                await Postgres.at(url_of(postgres, user="keeper", password="wrong"))
            async with await Postgres.at(
                url_of(postgres, user="keeper", password="p%C3%A4ss'w%C3%B6rd")
            ) as server:
                proxy = Proxy(server, "alice")
                await proxy.start()
                await proxy.attach(await server.create())
                async with await psycopg.AsyncConnection.connect(proxy.url()) as client:
                    assert await (await client.execute("SELECT current_user")).fetchone() == ("keeper",)
                await proxy.close()
        finally:
            hba.write_text(before)
            await admin.execute("SELECT pg_reload_conf()")
            await admin.execute("DROP ROLE keeper")


async def test_a_server_over_tcp(postgresql_url: str) -> None:
    """The server that was there before the tests: made, proxied, dropped, also with TLS where it has it."""
    async with await Postgres.at(postgresql_url) as server:
        made = await server.create()
        proxy = Proxy(server, "alice")
        await proxy.start()
        await proxy.attach(made)
        async with await psycopg.AsyncConnection.connect(proxy.url()) as client:
            row = await (await client.execute("SELECT current_database()")).fetchone()
        assert row == (made.name,)
        await proxy.close()
