"""The nearest name, as both wings have it."""

from mainstay.nearest import nearest, quoted

__all__ = ["nearest", "quoted"]
