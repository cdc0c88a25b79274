"""Settings beyond those of the other editions, from the environment."""

import os

from mainstay.patterns.messages import Retry

mail_url = os.environ.get("MAIL_URL", "http://127.0.0.1:9003")
"""Base URL of the mail service."""

PATIENCE = 2.0
"""Seconds to wait for a provider's answer. What comes later is asked for again with the same key."""

OUTSIDE = Retry(attempts=8, first=0.2, most=5.0)
"""How calls to providers are made again: before the pivot, the order is cancelled after the last attempt."""

INSIDE = Retry(attempts=8, first=0.1, most=5.0)
"""The same for work in the shop's own database."""

FOR_EVER = Retry(attempts=1_000_000, first=0.1, most=5.0)
"""For what must not be given up: figures that would miss an event, the way back."""
