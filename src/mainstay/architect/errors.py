"""The one error a user meets: what is wrong, where, and what to do about it."""


class MainstayError(Exception):
    """The tool could not do its work. The message is one sentence with place and remedy.

    The front door prints it as ``mainstay: MESSAGE`` and exits with code 2.
    """
