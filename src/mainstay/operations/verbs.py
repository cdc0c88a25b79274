"""The verbs of this package, as the front door composes them."""

from __future__ import annotations

import typer

from mainstay.operations import db, messages, sagas, schedules, subscriptions

app = typer.Typer()
for group in (db, messages, schedules, sagas, subscriptions):
    app.add_typer(group.app, name=group.__name__.rpartition(".")[2])
