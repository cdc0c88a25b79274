"""Patterns: what a service imports at run time. Each pattern is a module with a page beside it.

Nothing here knows the architect's wing, and nothing here needs more than SQLAlchemy, psycopg and httpx.
"""

from mainstay.patterns.conditional_update import update_one, update_where
from mainstay.patterns.database import Database
from mainstay.patterns.errors import (
    BadCursor,
    BadLimit,
    CommitUnknown,
    ConditionFailed,
    LockNotAvailable,
    Misuse,
    NestedTransaction,
    NotFound,
    OutsideCallInTransaction,
    PatternError,
    TransactionAborted,
    TransactionOver,
)
from mainstay.patterns.guards import refuse_in_transaction
from mainstay.patterns.http_client import HttpClient
from mainstay.patterns.keyset_pagination import Page
from mainstay.patterns.repository import Repository
from mainstay.patterns.serialization_retry import sqlstate
from mainstay.patterns.transaction import Transaction

__all__ = [
    "BadCursor",
    "BadLimit",
    "CommitUnknown",
    "ConditionFailed",
    "Database",
    "HttpClient",
    "LockNotAvailable",
    "Misuse",
    "NestedTransaction",
    "NotFound",
    "OutsideCallInTransaction",
    "Page",
    "PatternError",
    "Repository",
    "Transaction",
    "TransactionAborted",
    "TransactionOver",
    "refuse_in_transaction",
    "sqlstate",
    "update_one",
    "update_where",
]
