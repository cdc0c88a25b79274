"""The migrations make exactly the tables that the models describe."""

from __future__ import annotations

import os

import psycopg
from shop_editions import alembic, database
from sqlalchemy import make_url


def test_migrations_and_models_agree_and_lead_back(postgresql_url: str) -> None:
    """Up, no difference from the models, down to nothing, up again."""
    with database(postgresql_url, f"mainstay_shop_{os.getpid()}_migrations") as url:
        alembic(url, "upgrade", "head")
        alembic(url, "check")
        alembic(url, "downgrade", "base")
        plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(plain) as connection:
            tables = connection.execute(
                "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
            ).fetchall()
        assert tables == [("alembic_version",)]
        alembic(url, "upgrade", "head")


def test_the_durable_editions_migrations_add_its_tables_and_those_of_mainstay(postgresql_url: str) -> None:
    """Up, no difference from the models, down to nothing but Mainstay's tables, which may hold messages, up again."""
    with database(postgresql_url, f"mainstay_shop_{os.getpid()}_durable") as url:
        ini = ("-c", "durable/alembic.ini")
        alembic(url, *ini, "upgrade", "head")
        alembic(url, *ini, "check")
        alembic(url, *ini, "downgrade", "base")
        plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(plain) as connection:
            left = connection.execute(
                "SELECT schemaname, bool_or(tablename = 'saga') FROM pg_tables"
                " WHERE schemaname IN ('public', 'mainstay') GROUP BY 1 ORDER BY 1"
            ).fetchall()
        assert left == [("mainstay", True), ("public", False)]
        alembic(url, *ini, "upgrade", "head")
