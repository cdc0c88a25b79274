"""The nearest name, as both wings have it."""

from mainstay.nearest import nearest

__all__ = ["nearest"]
