"""`citytwin doctor`: what is installed, what is missing, what to type."""

from __future__ import annotations

import json
import platform
import shutil
from importlib import metadata
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from scenarios.cities import cache_folder
from twin.commands.answers import SAYS_NO

NEEDED = (
    "eclipse-sumo", "libsumo", "sumolib", "traci", "numpy", "numba", "scipy", "torch", "geopandas", "osmium",
    "pyarrow", "duckdb", "pydantic", "fastapi", "uvicorn", "asn1tools", "defusedxml", "gtfs-realtime-bindings",
    "paho-mqtt",
)  # fmt: skip
SUMO_PARTS = ("eclipse-sumo", "libsumo", "sumolib", "traci")


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Check the installation. Exit code 1 when something is missing."""
    found: dict[str, str | None] = {}
    for name in NEEDED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    advice = [f"pip install {name}" for name, version in found.items() if version is None]
    if len({found[name] for name in SUMO_PARTS}) > 1:
        advice.append("pip install " + " ".join(f"{name}=={found['eclipse-sumo']}" for name in SUMO_PARTS))
    document: dict[str, Any] = {
        "python": platform.python_version(),
        "packages": found,
        "cache": str(cache_folder()),
        "disk_free_gb": round(shutil.disk_usage(".").free / 1e9, 1),
        "advice": advice,
    }
    if as_json:
        typer.echo(json.dumps(document))
    else:
        table = Table("package", "version")
        for name, version in found.items():
            table.add_row(name, version or "[red]missing[/red]")
        console = Console()
        console.print(table)
        console.print(f"Python {document['python']}, cache {document['cache']}", highlight=False)
        for line in advice:
            console.print(f"To do: {line}", highlight=False)
    if advice:
        raise typer.Exit(SAYS_NO)
