"""Mainstay: a backend architect you can run.

Two wings under one front door: `mainstay.patterns` is what a service imports at run time,
`mainstay.architect` studies a service and is never installed in production.
"""

from importlib.metadata import version

__version__ = version("mainstay")
