"""The one error a user meets, as both wings have it."""

from mainstay.errors import MainstayError, complain

__all__ = ["MainstayError", "complain"]
