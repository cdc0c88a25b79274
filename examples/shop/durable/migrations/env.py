"""Runs the shared migrations and this edition's against DATABASE_URL."""

import os

from alembic import context
from sqlalchemy import create_engine, pool

import durable.models
import mainstay.patterns.schema.alembic  # noqa: F401  (registers op.upgrade_mainstay)

engine = create_engine(os.environ["DATABASE_URL"], poolclass=pool.NullPool)

with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=durable.models.Base.metadata)
    with context.begin_transaction():
        context.run_migrations()
