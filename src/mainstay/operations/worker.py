"""`mainstay worker`: run the handlers of an app."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import typer

from mainstay.errors import MainstayError
from mainstay.operations.display import names
from mainstay.operations.settings import Settings

app = typer.Typer()


@app.command(
    epilog="Examples:  mainstay worker shop.app:messages   |   mainstay worker shop.app:messages --queues mail,default "
    "--processes 4   |   mainstay worker shop.app:make_messages --health 0.0.0.0:8080.  SIGTERM, Ctrl-C or a closed "
    "terminal: finish what is at work within the grace, hand back the rest; a second time: hand back at once.  Exit "
    "codes: 0 ended as asked; 1 a process had to be cut off; 2 could not start (one line says why)."
)
def worker(
    target: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:APP",
            help="Where the app's Messages is, or a function that makes it.",
            show_default=False,
        ),
    ],
    queues: Annotated[
        list[str] | None,
        typer.Option(
            "--queues",
            "-q",
            help="Serve only these (repeat, or separate by commas); those of all handlers by default.",
            metavar="QUEUE",
        ),
    ] = None,
    processes: Annotated[
        int,
        typer.Option(
            "--processes",
            "-p",
            min=1,
            help="Worker processes; one that dies is replaced if there are several.",
        ),
    ] = 1,
    concurrency: Annotated[
        int, typer.Option("--concurrency", "-c", min=1, help="Messages at work at once in each process.")
    ] = 100,
    lease: Annotated[
        float,
        typer.Option(
            "--lease",
            min=0.1,
            max=3600,
            help="Seconds after the last sign of life of a process until others take over what it had.",
        ),
    ] = 30.0,
    grace: Annotated[
        float,
        typer.Option(
            "--grace",
            min=0,
            max=86_400,
            help="Seconds that handlers may go on after SIGTERM; then they are handed back.",
        ),
    ] = 25.0,
    health: Annotated[
        str | None,
        typer.Option(
            "--health",
            metavar="[HOST:]PORT",
            help="Answer HTTP there: 200 while all processes are alive, else 503. Loopback without a HOST.",
            show_default=False,
        ),
    ] = None,
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        typer.Option("--log-level", help="Where the app does not set up logging itself."),
    ] = "info",
) -> None:
    """Run the handlers of an app: its jobs, event subscribers, saga steps and schedules, until SIGTERM."""
    chosen = tuple(names(queues))
    if queues and not chosen:  # such as "$QUEUES" that is not set: not to be taken for all
        raise MainstayError("--queues names no queue; leave it out to serve those of all handlers.")
    if math.isnan(grace):
        raise MainstayError("--grace is a number of seconds.")
    settings = Settings(
        target,
        queues=chosen,
        concurrency=concurrency,
        lease=lease,
        grace=grace,
        log_level=log_level,
        health=health,
    )
    if processes == 1:
        from mainstay.operations.worker_process import work

        raise typer.Exit(work(settings))
    from mainstay.operations.supervisor import supervise

    raise typer.Exit(supervise(settings, processes))
