"""Mainstay: a backend architect you can run.

Two wings under one front door: `mainstay.patterns` is what a service imports at run time,
`mainstay.architect` studies a service and is never installed in production.
"""

__version__: str
"""Of the installed distribution."""


def __getattr__(name: str) -> str:
    """The version, looked up when it is asked for: reading metadata takes longer than most of what a verb imports."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import version

    return version("mainstay")
