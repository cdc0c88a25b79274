"""Drawing Mermaid as SVG, without a browser and without a network, where mermaidx is installed (extra ``validate``).

A picture costs about half a second, so that those drawn before are taken from a folder, by the hash of their text.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from html import escape
from pathlib import Path

MOST = 60
"""Pictures drawn for one site; the rest stand there as text."""


def installed() -> str:
    """The version of the renderer; empty where there is none."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("mermaidx")
    except PackageNotFoundError:
        return ""


def draw(text: str) -> str:
    """One diagram as SVG. Raises ValueError with the renderer's reason where it refuses the text."""
    import mermaidx  # type: ignore[import-untyped]

    try:
        svg = str(mermaidx.render(text).svg())
    except Exception as error:
        raise ValueError(" ".join(str(error).split())[:300]) from None
    if 'aria-roledescription="error"' in svg:
        raise ValueError("the renderer drew an error instead of a diagram")
    return svg


def drawer(
    texts: Sequence[str], cache: Path | None = None, progress: Callable[[int, int], None] | None = None
) -> Callable[[str], str | None]:
    """Draw the first `MOST` of some diagrams, in as many processes as there are cores.

    Args:
        texts: Mermaid texts, the most important ones first.
        cache: a folder for pictures drawn before; none are kept without it.
        progress: told how many are drawn, of how many.

    Returns:
        The SVG of a text; None for what was not drawn.
    """
    version = installed()
    made: dict[str, str] = {}
    if not version:
        return made.get
    wanted = list(dict.fromkeys(texts))[:MOST]
    names = {text: hashlib.sha256(f"{version}\0{text}".encode()).hexdigest()[:32] + ".svg" for text in wanted}
    if cache is not None:
        for text in wanted:
            with suppress(OSError):
                made[text] = (cache / names[text]).read_text(encoding="utf-8")
    left = [text for text in wanted if text not in made]
    with ProcessPoolExecutor(min(len(left), os.cpu_count() or 1) or 1) as pool:
        for at, (text, svg) in enumerate(zip(left, pool.map(_drawn, left), strict=True), 1):
            if svg is not None:
                made[text] = svg
                _keep(cache, names[text], svg)
            if progress is not None:
                progress(at, len(left))
    return made.get


def _drawn(text: str) -> str | None:
    try:
        return draw(text)
    except ValueError:
        return None


def _keep(cache: Path | None, name: str, svg: str) -> None:
    if cache is None:
        return
    with suppress(OSError):  # a cache that cannot be written is no cache
        cache.mkdir(parents=True, exist_ok=True)
        partial = cache / f"{name}.{os.getpid()}"
        partial.write_text(svg, encoding="utf-8")
        partial.replace(cache / name)


def unique(svg: str, name: str, title: str) -> str:
    """The picture with ids of its own, so that several stand on one page, and with a title for who does not see it."""
    svg = svg.replace("my-svg", name)
    svg = re.sub(r"<script.*?</script>", "", svg, flags=re.DOTALL | re.IGNORECASE)
    # An alternative text, and the size that the picture has: it shrinks to the page, and never grows.
    svg = re.sub(r'role="[^"]*"', f'role="img" aria-label="{escape(title, quote=True)}"', svg, count=1)
    return re.sub(r' aria-roledescription="[^"]*"', "", svg, count=1)
