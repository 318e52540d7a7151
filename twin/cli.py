"""The program `citytwin`: arguments -> one call."""

from __future__ import annotations

import sys
import traceback
from importlib.metadata import version
from typing import Annotated

import typer

from twin.commands import branch, calibrate, forecast, network, serve, signals
from twin.commands.answers import OUR_FAULT
from twin.commands.doctor import doctor
from twin.commands.replay import replay
from twin.commands.run import run

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command(epilog="Example: citytwin run --city zone --seeds 2 --duration 1200")(run)
app.command(epilog=serve.EPILOG)(serve.serve)
app.command(epilog="Example: citytwin replay recordings/monday --city zone --verify")(replay)
app.command(epilog=branch.EPILOG)(branch.branch)
app.command(epilog=calibrate.EPILOG)(calibrate.calibrate)
app.command(epilog="Example: citytwin doctor --json")(doctor)
app.add_typer(network.app, name="network")
app.add_typer(signals.app, name="signals")
app.add_typer(forecast.app, name="forecast")


def _tell_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"citytwin {version('citytwin')}")
        raise typer.Exit


@app.callback()
def citytwin(
    asked: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Say which version this is.")
    ] = False,
) -> None:
    """City traffic digital twin and signal optimisation."""


def main() -> None:
    """Console script. Exit codes: 0 done, 1 the result says no, 2 bad input, 3 a fault of ours."""
    try:
        app()
    except Exception:  # the last line of defence: a fault of ours has its own exit code
        traceback.print_exc()
        sys.exit(OUR_FAULT)


if __name__ == "__main__":
    main()
