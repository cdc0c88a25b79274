"""Mainstay's own tables: a schema called ``mainstay`` in the user's database, made by numbered SQL files.

The files beside this one are the migrations, `NNNN_what.sql`, applied in order, each once and each in one
transaction. A released file is never changed. Each must leave the code of the version before it working, so
that in a rolling deploy the schema goes first and workers follow one by one; what an older version still
uses is dropped one release later (expand and contract).
"""

from mainstay.patterns.schema.upgrade import (
    Migration,
    SchemaBehind,
    applied,
    check,
    migrations,
    upgrade,
    upgrade_sync,
)

__all__ = ["Migration", "SchemaBehind", "applied", "check", "migrations", "upgrade", "upgrade_sync"]
