"""The front door: composes the verbs of both wings, and holds no logic of theirs.

Results go to stdout, progress and problems to stderr. Exit code 0: done, or nothing found; 1: findings; 2: the work,
or a part of it, could not be done, said in one line with the remedy.

Only the wing that a verb stands in is imported, so that a production install needs no more than it runs.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated

import typer

from mainstay import __version__
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


WINGS: Mapping[str, tuple[Callable[[], typer.Typer], Sequence[str]]] = {
    "architect": (_architect, ("demo", "review", "diagnose", "replay", "explain", "catalog")),
    "design": (_design, ("design",)),
    "worker": (_worker, ("worker",)),
    "cli": (_operations, ("db", "messages", "schedules", "sagas", "subscriptions")),
}
"""By what is imported for them: where the verbs are, and their names. `design` is apart so that it answers at once,
`worker` so that what supervises processes carries nothing of what they run."""
EXTRAS: Mapping[str, str] = {"architect": "architect", "design": "architect", "worker": "cli", "cli": "cli"}
"""The extra that each needs."""


def compose(verb: str | None) -> typer.Typer:
    """The command line for one verb; with all verbs that are installed where it is none of them.

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
    chosen = [wing for wing, (_, verbs) in WINGS.items() if verb in verbs] or list(WINGS)
    for wing in chosen:
        try:
            app.add_typer(WINGS[wing][0]())
        except ModuleNotFoundError as missing:
            sentence = _not_installed(wing, verb, missing)
            if chosen == [wing]:
                raise sentence from None
    return app


def _not_installed(wing: str, verb: str | None, missing: ModuleNotFoundError) -> MainstayError:
    """What to install. Raises `missing` itself where it is a module of ours."""
    if missing.name is None or missing.name.split(".")[0] == "mainstay":
        raise missing
    return MainstayError(
        f"{verb} needs the package {missing.name!r}; install Mainstay with its {EXTRAS[wing]!r} extra."
    )


def _main(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
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
            wing = next((wing for wing, (_, verbs) in WINGS.items() if verb in verbs), None)
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
