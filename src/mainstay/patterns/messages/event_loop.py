"""How long a handler holds the event loop: from one `await` to the next, nothing else in its process goes on.

A handler that computes, or waits without `await`, for longer than its worker's lease keeps the heartbeats back: others
take over what the worker holds, and are held up in the same way. So each step is timed, and what was held too long is
told of in the log and in the error history.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Generator
from time import monotonic
from typing import Any


@types.coroutine
def timed(
    call: Callable[..., Any], *arguments: Any, limit: float, tell: Callable[[float], None]
) -> Generator[Any, Any, Any]:
    """Await ``call(*arguments)``, or call it where it is a plain function; what it returned.

    Args:
        limit: seconds that it may hold the event loop at a time.
        tell: called with the seconds, after each time that was longer.
    """
    begun = monotonic()
    try:
        result = call(*arguments)
        if not hasattr(result, "__await__"):
            return result
        steps = result.__await__()
        awaits = next(steps)
    except StopIteration as end:
        return end.value
    finally:
        if (held := monotonic() - begun) > limit:
            tell(held)
    while True:
        try:
            resume, given = steps.send, (yield awaits)
        except GeneratorExit:
            steps.close()
            raise
        except BaseException as error:
            resume, given = steps.throw, error
        begun = monotonic()
        try:
            awaits = resume(given)
        except StopIteration as end:
            return end.value
        finally:
            if (held := monotonic() - begun) > limit:
                tell(held)
