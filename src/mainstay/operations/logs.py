"""The log of a process that works, where its app does not set up one."""

from __future__ import annotations

import logging
import time


def set_up_logging(level: str) -> None:
    """Plain lines on stderr, unless the app has set up logging itself."""
    root = logging.getLogger()
    if root.handlers:
        return
    formatter = logging.Formatter(
        "%(asctime)s.%(msecs)03dZ %(levelname)s %(process)d %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S"
    )
    formatter.converter = time.gmtime
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    root.addHandler(handler)
    root.setLevel(level.upper())
