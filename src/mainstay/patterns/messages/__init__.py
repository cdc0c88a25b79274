"""Durable messages in the user's own PostgreSQL: the one engine beneath events, jobs, schedules and sagas.

A message is a row, made in the publisher's own transaction (`engine.py`). A worker leases due messages in batches,
runs their handlers, and completes them (`worker.py`): where the handler takes a transaction, in that very
transaction. A worker's leases live as long as its heartbeat; when it goes away, any other one takes over, and the
fencing token of each lease keeps the old one from completing what it lost. All SQL stands in `sql/`, one named
statement a file; states and transitions are enforced by the tables (`patterns/schema/0001_messages.sql`).

Guarantees. What a handler does through its transaction happens exactly once. What it does elsewhere happens at least
once; `Message.idempotency_key` is the same in every attempt, so that the other side can tell.
"""

from mainstay.patterns.messages.driver import PooledByTransaction
from mainstay.patterns.messages.engine import Engine, Publishable
from mainstay.patterns.messages.facade import Messages
from mainstay.patterns.messages.handler import GiveUp, Handler, NotNow, Retry, TryAgain
from mainstay.patterns.messages.message import LeaseLost, Message, NewMessage, PayloadTooLarge, Unserializable
from mainstay.patterns.messages.worker import ReadOnlyDatabase, Worker

__all__ = [
    "Engine",
    "GiveUp",
    "Handler",
    "LeaseLost",
    "Message",
    "Messages",
    "NewMessage",
    "NotNow",
    "PayloadTooLarge",
    "PooledByTransaction",
    "Publishable",
    "ReadOnlyDatabase",
    "Retry",
    "TryAgain",
    "Unserializable",
    "Worker",
]
