"""The one error a user meets at the command line: what is wrong, where, and what to do about it."""

from __future__ import annotations

import sys


class MainstayError(Exception):
    """The tool could not do its work. The message is one sentence with place and remedy.

    The front door prints it as ``mainstay: MESSAGE`` and exits with code 2.

    Args:
        message: the sentence.
        details: lines to show above it, such as the traceback of the user's own module.
    """

    def __init__(self, message: str, *, details: str = "") -> None:
        super().__init__(message)
        self.details = details


def complain(message: str) -> int:
    """Say on stderr, in one line, why the work could not be done. Returns exit code 2."""
    sys.stderr.write("mainstay: " + " ".join(message.split()) + "\n")
    return 2
