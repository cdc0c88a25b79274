"""Rows are multiplied in any schema: what points at them comes along, and unique values are fresh."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest

from mainstay.architect.diagnose.copying import CannotGrow, Copier, outgoing
from mainstay.architect.diagnose.postgres import Postgres
from mainstay.architect.diagnose.schema import Schema, read_schema

SHOP = """
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE TABLE customer (id serial PRIMARY KEY, email varchar(20) NOT NULL UNIQUE, token uuid NOT NULL UNIQUE,
                       referrer int REFERENCES customer);
CREATE TABLE product (sku text PRIMARY KEY, price numeric(8, 2) NOT NULL, since date NOT NULL UNIQUE);
CREATE TABLE purchase (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                       customer_id int NOT NULL REFERENCES customer, note jsonb, at timestamptz DEFAULT now(),
                       twice int GENERATED ALWAYS AS (customer_id * 2) STORED);
CREATE TABLE line (purchase_id int REFERENCES purchase, sku text REFERENCES product, quantity int NOT NULL,
                   PRIMARY KEY (purchase_id, sku));
CREATE TABLE invoice (purchase_id int PRIMARY KEY REFERENCES purchase, number int NOT NULL UNIQUE);
CREATE TABLE feeling (mood mood PRIMARY KEY);
INSERT INTO customer (email, token, referrer) VALUES
  ('ada@example.org', '00000000-0000-0000-0000-000000000001', NULL),
  ('bob@example.org', '00000000-0000-0000-0000-000000000002', 1);
INSERT INTO product VALUES ('tea', 4.50, '2026-01-01'), ('cup', 12.00, '2026-01-02');
INSERT INTO purchase (customer_id, note) VALUES (1, '{"a": [1.5]}'), (2, NULL);
INSERT INTO line VALUES (1, 'tea', 1), (1, 'cup', 2), (2, 'tea', 3);
INSERT INTO invoice VALUES (1, 7);
INSERT INTO feeling VALUES ('good');
"""


@pytest.fixture
async def shop(postgresql_url: str) -> AsyncIterator[tuple[psycopg.AsyncConnection[Any], Schema]]:
    """A database with the small shop in it."""
    async with (
        await Postgres.at(postgresql_url) as postgres,
        await postgres.connect(await postgres.create()) as connection,
    ):
        await connection.execute(SHOP)
        yield connection, await read_schema(connection)


async def rows(connection: psycopg.AsyncConnection[Any], sql: str) -> list[tuple[Any, ...]]:
    return await (await connection.execute(sql.encode())).fetchall()


async def test_a_table_grows_with_what_points_at_it(
    shop: tuple[psycopg.AsyncConnection[Any], Schema],
) -> None:
    """Each copied purchase has lines and an invoice of its own, and the same customer and products."""
    connection, schema = shop
    assert await Copier(connection, schema).grow("purchase", 4) == 8
    assert await rows(
        connection, "SELECT count(*), count(DISTINCT purchase_id), count(DISTINCT sku) FROM line"
    ) == [(12, 8, 2)]
    assert await rows(connection, "SELECT count(*), count(DISTINCT number) FROM invoice") == [(4, 4)]
    assert await rows(connection, "SELECT count(*) FROM customer") == [(2,)]
    assert await rows(connection, "SELECT DISTINCT note FROM purchase ORDER BY 1") == [
        ({"a": [1.5]},),
        (None,),
    ]
    await connection.execute("INSERT INTO purchase (customer_id) VALUES (1)")  # the sequence has moved on


async def test_copies_can_point_at_rows_of_their_own(
    shop: tuple[psycopg.AsyncConnection[Any], Schema],
) -> None:
    """Every line of a copy gets a product of its own, with a fresh name and date."""
    connection, schema = shop
    links = [(name, key) for name, key in outgoing(schema, "purchase") if key.table == "product"]
    await Copier(connection, schema).grow("purchase", 3, links)
    assert await rows(connection, "SELECT count(*), count(DISTINCT since) FROM product") == [(8, 8)]
    assert await rows(connection, "SELECT count(DISTINCT sku) FROM line") == [(8,)]


async def test_a_table_that_points_at_itself(shop: tuple[psycopg.AsyncConnection[Any], Schema]) -> None:
    """The copy of bob was referred by the copy of ada; addresses stay addresses within their length."""
    connection, schema = shop
    await Copier(connection, schema).grow("customer", 2)
    found = await rows(connection, "SELECT id, email, referrer FROM customer ORDER BY id")
    assert found[2:] == [(3, "ada-1@example.org", None), (4, "bob-2@example.org", 3)]
    assert await rows(connection, "SELECT count(*) FROM purchase") == [(4,)]


async def test_a_row_that_is_one_to_one_needs_its_parent(
    shop: tuple[psycopg.AsyncConnection[Any], Schema],
) -> None:
    """An invoice cannot be copied for the same purchase, but it can with a purchase of its own."""
    connection, schema = shop
    with pytest.raises(CannotGrow, match="unique by purchase_id, which points at other rows"):
        await Copier(connection, schema).grow("invoice", 2)
    links = list(outgoing(schema, "invoice"))
    assert await Copier(connection, schema).grow("invoice", 2, links) == 2


async def test_a_column_without_fresh_values(shop: tuple[psycopg.AsyncConnection[Any], Schema]) -> None:
    """There are only two moods."""
    connection, schema = shop
    with pytest.raises(CannotGrow, match="there is no fresh value for mood"):
        await Copier(connection, schema).grow("feeling", 2)
