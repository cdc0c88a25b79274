"""Sagas: several steps, each a transaction or a call of its own, that are all done or undone again.

A saga is a class with steps (`saga.py`, `step.py`). Its row and its plan are made in the caller's transaction. Each
step is a message of the engine: what the step did, the saga's row and the message of the next step commit together
(`runner.py`). Which step follows upon what is decided by functions that touch nothing (`moves.py`). People look and
intervene through `control.py`. The page is `saga.md`; states and transitions are enforced by the tables
(`patterns/schema/0006_sagas.sql`).
"""

from mainstay.patterns.saga.control import (
    NoSuchSaga,
    TooLate,
    cancel,
    compensate,
    list_sagas,
    retry,
    show,
    skip,
    wait,
)
from mainstay.patterns.saga.saga import Saga
from mainstay.patterns.saga.step import Call, Refused, on_compensated, on_completed, step

__all__ = [
    "Call",
    "NoSuchSaga",
    "Refused",
    "Saga",
    "TooLate",
    "cancel",
    "compensate",
    "list_sagas",
    "on_compensated",
    "on_completed",
    "retry",
    "show",
    "skip",
    "step",
    "wait",
]
