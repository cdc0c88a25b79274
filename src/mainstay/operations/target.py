"""Find what ``module:app`` names: the `Messages` of the user's service."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from mainstay.errors import MainstayError
from mainstay.nearest import nearest
from mainstay.patterns.messages import Engine

LONGEST_TRACEBACK = 12
"""Frames shown of an error in the user's module."""


def load(target: str) -> Any:
    """Import the module, from the current folder too, and get the attribute.

    Raises:
        MainstayError: there is no such module or attribute, or importing the module fails: with its traceback.
    """
    name, colon, path = target.partition(":")
    if not colon or not name or not path:
        raise MainstayError(f"{target!r} names no app; write module:attribute, such as shop.app:messages.")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    found: Any = _import(name, target)
    for step in path.split("."):
        if not hasattr(found, step):
            raise MainstayError(f"{target!r}: {_missing(found, name, step)}.")
        found = getattr(found, step)
    return found


async def resolve(found: Any, target: str) -> Engine:
    """The `Messages` that was found, or that the function makes which was found.

    Raises:
        MainstayError: it is neither, or the function raises: with its traceback.
    """
    made = found
    if callable(found):
        try:
            made = found()
            if inspect.isawaitable(made):
                made = await made
        except Exception as error:
            raise MainstayError(
                f"{target!r} could not be made: {_unset(error) or 'calling it failed'}.",
                details=_brief(error),
            ) from error
    if isinstance(made, Engine):
        return made
    what = f"returns a {type(made).__qualname__}" if callable(found) else f"is a {type(made).__qualname__}"
    raise MainstayError(
        f"{target!r} {what}; name a Messages, or a function without arguments that returns one."
    )


def _import(name: str, target: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise MainstayError(
                f"there is no module {error.name!r} for {target!r}; start in the folder that holds it, or install it."
            ) from None
        raise _failed(name, error) from error
    except (Exception, SystemExit) as error:
        raise _failed(name, error) from error


def _failed(name: str, error: BaseException) -> MainstayError:
    return MainstayError(
        f"the module {name!r} cannot be imported: {_unset(error) or 'see its error above'}.",
        details=_brief(error),
    )


def _unset(error: BaseException) -> str:
    """That a variable is not set, where the error is `os.environ`'s: on a fresh machine the usual reason."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    if frames and error.args and frames[-1].f_code is type(os.environ).__getitem__.__code__:
        return f"the environment variable {error.args[0]} is not set"
    return ""


def _missing(holder: Any, name: str, step: str) -> str:
    if not isinstance(holder, ModuleType):
        return f"the {type(holder).__qualname__} there has no attribute {step!r}"
    engines = [key for key, value in vars(holder).items() if isinstance(value, Engine)]
    hint = nearest(step, [key for key in vars(holder) if not key.startswith("_")])
    if not hint and engines:
        hint = f" (its Messages: {', '.join(engines)})"
    return f"module {name!r} has no attribute {step!r}{hint}"


def _brief(error: BaseException) -> str:
    """The traceback from where the user's code begins, at most the last frames of it."""
    told = traceback.TracebackException.from_exception(error)
    ours = ("importlib", "<frozen importlib", __file__)
    frames = [frame for frame in told.stack if not any(part in frame.filename for part in ours)]
    told.stack = traceback.StackSummary.from_list(frames[-LONGEST_TRACEBACK:])
    return "".join(told.format())
