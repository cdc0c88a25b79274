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
