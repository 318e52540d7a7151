"""`citytwin signals ...`: the sub-app; the verbs of other files are registered at the end."""

from __future__ import annotations

import typer

app = typer.Typer(help="Check, convert, show, retime and control traffic signals.", no_args_is_help=True)


@app.callback()
def signals() -> None:
    """Check, convert, show, retime and control traffic signals."""


# Verbs with files of their own join here: retime (twin/commands/retime.py) and control (twin/commands/control.py),
# each as an app.command with its epilog, the way twin/cli.py does it.
