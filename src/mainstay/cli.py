"""The front door: composes the verbs of both wings, and holds no logic of theirs.

Results go to stdout, progress and problems to stderr. Exit code 0: done, or nothing found; 1: findings; 2: the work,
or a part of it, could not be done, said in one line with the remedy.

Only the wing that a verb stands in is imported, so that a production install needs no more than it runs.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Annotated

import typer

from mainstay.errors import MainstayError, complain


def _architect() -> typer.Typer:
    from mainstay.architect.verbs import app

    return app


def _design() -> typer.Typer:
    from mainstay.architect.design_verbs import app

    return app


def _worker() -> typer.Typer:
    from mainstay.operations.worker import app

    return app


def _operations() -> typer.Typer:
    from mainstay.operations.verbs import app

    return app


@dataclass(frozen=True, slots=True)
class Wing:
    """Verbs that are imported together."""

    load: Callable[[], typer.Typer]
    extra: str
    """The extra that they need."""
    package: str
    """A package that comes with this extra: without it the overview does not list them."""
    verbs: Mapping[str, str]
    """Their names, each with the line that the overview shows; none of them is imported for it."""


WINGS: Mapping[str, Wing] = {
    "architect": Wing(
        _architect,
        "architect",
        "yaml",
        {
            "demo": "The whole loop on the shipped shop: review it, prove its three sharp edges, show its safe edition "
            "clean.",
            "review": "Read source and find its sharp edges, with the path that leads to each. The code is never "
            "imported or run.",
            "diagnose": "Run a service against a real PostgreSQL and prove its sharp edges. What follows -- replaces "
            "its command.",
            "replay": "Run one witness again: same start, same schedule. Exit code 1 where the edge still cuts, 0 "
            "where it is gone.",
            "explain": "Print the page of a sharp edge, a risk or a pattern.",
            "catalog": "List every sharp edge, every risk of a design and every pattern.",
        },
    ),
    "design": Wing(
        _design,
        "architect",
        "yaml",
        {
            "design": "Compute the risks of a design from its blueprint: each with formula, inputs and what would "
            "satisfy it."
        },
    ),
    "worker": Wing(
        _worker,
        "cli",
        "sqlalchemy",
        {
            "worker": "Run the handlers of an app: its jobs, event subscribers, saga steps and schedules, until "
            "SIGTERM."
        },
    ),
    "cli": Wing(
        _operations,
        "cli",
        "sqlalchemy",
        {
            "db": "Mainstay's own tables: see what is applied, apply what is missing.",
            "messages": "Look at messages and queues: list, show, retry, cancel, redrive, pause, limit.",
            "schedules": "Look at schedules: list, pause, resume, fire now.",
            "sagas": "Look at sagas, and help one that is stuck: list, show, retry, skip, compensate, cancel.",
            "subscriptions": "Make the subscribers of events known, look at them, and retire one that is gone: "
            "declare, list, retire.",
        },
    ),
}
"""By what is imported for them. `design` is apart so that it answers at once, `worker` so that what supervises
processes carries nothing of what they run."""


def compose(verb: str | None) -> typer.Typer:
    """The command line for one verb; an overview of those that are installed where it is none of them.

    Raises:
        MainstayError: a package that the verb needs is not installed.
    """
    app = typer.Typer(
        name="mainstay",
        help="A backend architect you can run: finds, proves and removes the sharp edges of services on PostgreSQL, "
        "and runs what they leave to be done.",
        epilog="Examples:  mainstay demo   |   mainstay review .   |   mainstay worker shop.app:messages   |   "
        "mainstay messages list --state dead.  Exit codes: 0 done, or nothing found; 1 findings; 2 the work, or a part "
        "of it, could not be done (one line says why).",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(invoke_without_command=True)(_main)
    for wing in WINGS.values():
        if verb in wing.verbs:
            try:
                app.add_typer(wing.load())
            except ModuleNotFoundError as missing:
                raise _not_installed(wing, verb, missing) from None
            return app
    for wing in WINGS.values():
        for name, line in wing.verbs.items() if find_spec(wing.package) else ():
            app.command(name, help=line)(_named_only)
    return app


def _not_installed(wing: Wing, verb: str | None, missing: ModuleNotFoundError) -> MainstayError:
    """What to install. Raises `missing` itself where it is a module of ours."""
    if missing.name is None or missing.name.split(".")[0] == "mainstay":
        raise missing
    return MainstayError(
        f"{verb} needs the package {missing.name!r}; install Mainstay with its {wing.extra!r} extra."
    )


def _named_only() -> None:
    """A verb as the overview lists it: whoever gives its name gets the verb itself."""


def _main(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        from mainstay import __version__

        typer.echo(f"mainstay {__version__}")
        raise typer.Exit


def _command(error: typer.TyperException) -> str:
    """The command that was wrongly called, as people write it."""
    names: list[str] = []
    context = getattr(error, "ctx", None)
    while context is not None and context.parent is not None:
        names.insert(0, context.info_name or "")
        context = context.parent
    return " ".join(["mainstay", *names])


def run() -> None:
    """The console script. Every error a user can cause ends here as one line on stderr and exit code 2."""
    arguments = sys.argv[1:]
    command: list[str] | None = None
    if "--" in arguments:
        at = arguments.index("--")
        arguments, command = arguments[:at], arguments[at + 1 :]
    try:
        if command is not None and (not arguments or arguments[0] not in ("diagnose", "replay")):
            raise MainstayError("'-- COMMAND' goes with diagnose and replay only.")
        if command == []:
            raise MainstayError(
                "'--' needs the command of the service behind it, such as: -- python -m uvicorn app:app."
            )
        if arguments[:1] == ["design"]:
            gc.disable()  # until a blueprint is read: nothing of what is loaded goes away
        verb = arguments[0] if arguments else None
        app = compose(verb)
        try:
            code = app(args=arguments, standalone_mode=False, obj=command)
        except ModuleNotFoundError as missing:  # of what a verb imports only as it begins
            wing = next((wing for wing in WINGS.values() if verb in wing.verbs), None)
            if wing is None:
                raise
            raise _not_installed(wing, verb, missing) from None
    except MainstayError as error:
        sys.stderr.write(error.details)
        code = complain(str(error))
    except (typer.Abort, KeyboardInterrupt):
        code = complain("interrupted.")
    except typer.TyperException as error:
        message = str(error.format_message()).rstrip(".")  # empty where help was asked for by giving nothing
        code = complain(f"{message}; see: {_command(error)} --help") if message else 2
    except BrokenPipeError:  # the reader of our output went away, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except Exception as error:
        # A fault of ours is still one line; whoever wants to report it can ask for the rest.
        if os.environ.get("MAINSTAY_TRACEBACK"):
            raise
        code = complain(
            f"this is a fault of Mainstay, please report it: {type(error).__name__}: {error} "
            "(MAINSTAY_TRACEBACK=1 shows where)"
        )
    raise SystemExit(code)
