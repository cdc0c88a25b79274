"""Review: source in, effects out, findings on top. Nothing of what is read is imported or run."""

from mainstay.architect.review.engine import review

__all__ = ["review"]
