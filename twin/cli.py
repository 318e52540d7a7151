"""The program `citytwin`: arguments -> one call."""

from __future__ import annotations

import typer

from twin.commands import doctor, network
from twin.commands.run import run

app = typer.Typer(
    help="City traffic digital twin and signal optimisation.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command(
    epilog="Example: citytwin run --city zone --seeds 2 --duration 1200",
)(run)
app.command(epilog="Example: citytwin doctor --json")(doctor.doctor)
app.add_typer(network.app, name="network")


def main() -> None:
    """Console script."""
    app()


if __name__ == "__main__":
    main()
