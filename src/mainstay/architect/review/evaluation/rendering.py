"""Rendering: an expression as code for a reader."""

from __future__ import annotations

from mainstay.architect.review import facts as f
from mainstay.architect.review.facts import Facts


def render(expression: Facts, depth: int = 0) -> str:
    """Code for a reader, shortened."""
    if not expression or depth > 6:
        return ""
    kind = expression[0]
    if kind == f.NAME:
        return str(expression[1])
    if kind == f.ATTR:
        return f"{render(expression[1], depth + 1) or '…'}.{expression[2]}"
    if kind == f.CALL:
        parts = [render(a, depth + 3) or "…" for a in expression[2][:2]]
        if len(expression[2]) > 2 or expression[3]:
            parts.append("…")
        return f"{render(expression[1], depth + 1) or '…'}({', '.join(parts)})"
    if kind == f.CONST:
        text = repr(expression[1])
        return text if len(text) <= 60 else text[:57] + "…" + text[0]
    if kind == f.SUB:
        return f"{render(expression[1], depth + 1) or '…'}[{render(expression[2], depth + 2) or '…'}]"
    if kind == f.AWAIT:
        return render(expression[1], depth + 1)
    if kind == f.ITEMS:
        return ", ".join(render(part, depth + 2) or "…" for part in expression[1][:3])
    return ""
