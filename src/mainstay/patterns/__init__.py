"""Patterns: what a service imports at run time. Each pattern is a module with a page beside it.

Nothing here knows the architect's wing, and nothing here needs more than SQLAlchemy, psycopg, httpx and pydantic.
"""

from typing import TYPE_CHECKING, Any

from mainstay.patterns.conditional_update import update_one, update_where
from mainstay.patterns.database import Database
from mainstay.patterns.errors import (
    BadCursor,
    BadETag,
    BadLimit,
    CommitUnknown,
    ConcurrentUse,
    ConditionFailed,
    LockNotAvailable,
    Misuse,
    NestedTransaction,
    NotFound,
    OutsideCallInTransaction,
    PatternError,
    ReplyInTransaction,
    StaleWrite,
    TransactionAborted,
    TransactionOver,
    VersionRequired,
)
from mainstay.patterns.guards import refuse_in_transaction
from mainstay.patterns.http_answers import Answer, AnswerErrors, answer_to
from mainstay.patterns.keyset_pagination import Page
from mainstay.patterns.repository import Repository
from mainstay.patterns.serialization_retry import sqlstate
from mainstay.patterns.service_layer import transactional
from mainstay.patterns.transaction import Transaction
from mainstay.patterns.version_column import etag, if_match

if TYPE_CHECKING:
    from mainstay.patterns.http_client import HttpClient

__all__ = [
    "Answer",
    "AnswerErrors",
    "BadCursor",
    "BadETag",
    "BadLimit",
    "CommitUnknown",
    "ConcurrentUse",
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
    "ReplyInTransaction",
    "Repository",
    "StaleWrite",
    "Transaction",
    "TransactionAborted",
    "TransactionOver",
    "VersionRequired",
    "answer_to",
    "etag",
    "if_match",
    "refuse_in_transaction",
    "sqlstate",
    "transactional",
    "update_one",
    "update_where",
]


def __getattr__(name: str) -> Any:
    """httpx takes eight megabytes, so it is imported by those who call other systems."""
    if name == "HttpClient":
        from mainstay.patterns.http_client import HttpClient

        return HttpClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
