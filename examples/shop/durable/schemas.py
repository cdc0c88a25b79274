"""The shapes of this edition's own replies."""

from pydantic import BaseModel


class StepProgress(BaseModel):
    name: str
    state: str


class Progress(BaseModel):
    """How far an order has come."""

    id: int
    status: str
    fulfilment: str
    steps: list[StepProgress]
    reason: str | None
    """Why it went back, or what it is stuck at."""
