"""Drawing Mermaid as SVG, without a browser and without a network, where mermaidx is installed (extra ``validate``).

A picture costs about half a second, so that those drawn before are taken from a folder, by the hash of their text.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from html import escape
from pathlib import Path
from threading import Timer

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
    texts: Sequence[str],
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    seconds: float | None = None,
) -> Callable[[str], str | None]:
    """Draw the first `MOST` of some diagrams, in as many processes as there are cores.

    Args:
        texts: Mermaid texts, the most important ones first.
        cache: a folder for pictures drawn before; none are kept without it.
        progress: told how many are drawn, of how many.
        seconds: how long at most; what is drawn until then is kept, and the rest is begun with the next time.

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
    for text, (svg, _) in zip(left, draw_all(left, progress, seconds), strict=True):
        if svg:
            made[text] = svg
            _keep(cache, names[text], svg)
    return made.get


def draw_all(
    texts: Sequence[str],
    progress: Callable[[int, int], None] | None = None,
    seconds: float | None = None,
) -> list[tuple[str, str]]:
    """Each text as SVG, or empty with the reason why not; as many processes as there are cores draw them.

    Those still at work after so many `seconds` are ended: a picture of many nodes can take minutes.

    The processes are begun anew, never forked: who has drawn, or compiled protocol buffers, has threads, and a copy
    of it may wait for ever for a lock that one of them held.
    """
    number = min(len(texts), os.cpu_count() or 1)
    told: dict[int, tuple[str, str]] = {}
    processes: list[subprocess.Popen[str]] = []

    def work(start: int) -> None:
        mine = range(start, len(texts), number)
        # By import, not by ``-m``, which warns of what the package has imported already.
        command = [sys.executable, "-c", f"from {__name__} import main; main()"]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
        ) as process:
            processes.append(process)
            assert process.stdin is not None and process.stdout is not None
            with suppress(OSError):  # it died; what it did not tell is said below
                process.stdin.write(json.dumps([texts[at] for at in mine]))
                process.stdin.close()
            for at, line in zip(mine, process.stdout, strict=False):
                if not line.endswith("\n"):  # it was ended in the middle of its answer
                    break
                svg, error = json.loads(line)
                told[at] = (svg, error)
                if progress is not None:
                    progress(len(told), len(texts))

    def end() -> None:
        for process in processes:
            process.kill()

    alarm = Timer(seconds, end) if seconds is not None else None
    if alarm is not None:
        alarm.daemon = True
        alarm.start()
    try:
        with ThreadPoolExecutor(number or 1) as threads:
            list(threads.map(work, range(number)))
    finally:
        if alarm is not None:
            alarm.cancel()
    return [told.get(at, ("", "the renderer ended without an answer")) for at in range(len(texts))]


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
    # An alternative text, and the size that the picture has: it shrinks to the page, never grows, and is not made
    # smaller than what can be read (the style sheet decides).
    svg = re.sub(r'role="[^"]*"', f'role="img" aria-label="{escape(title, quote=True)}"', svg, count=1)
    svg = re.sub(r"max-width: ([0-9.]+px);", r"max-width: \1; --width: \1;", svg, count=1)
    return re.sub(r' aria-roledescription="[^"]*"', "", svg, count=1)


def main() -> None:
    """Read texts, a JSON list, from stdin; write a line of JSON for each: the SVG, and the reason why there is none."""
    for text in json.load(sys.stdin):
        try:
            said = [draw(text), ""]
        except ValueError as error:
            said = ["", str(error)]
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
