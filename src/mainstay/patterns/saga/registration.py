"""Make a class known: to itself, so that it can be started, and to the workers, so that its steps are run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mainstay.patterns.saga import runner
from mainstay.patterns.saga.definition import define

if TYPE_CHECKING:
    from mainstay.patterns.messages.facade import Messages
    from mainstay.patterns.saga.saga import Saga


def register(messages: Messages, cls: type[Saga], **options: Any) -> None:
    """As `Messages.saga` says.

    Raises:
        Misuse: its steps do not make a saga, or the name is taken.
    """
    definition = define(cls, **options)
    if messages.sagas is None:
        messages.sagas = runner.Upkeep(messages)
    runner.register(messages, definition)
    cls.saga_definition = definition
