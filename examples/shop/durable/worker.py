"""What workers run: ``mainstay worker durable.worker:messages``."""

from . import fulfilment, mail, reports
from .messages import messages

__all__ = ["fulfilment", "mail", "messages", "reports"]
