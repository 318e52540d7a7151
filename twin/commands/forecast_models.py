"""`citytwin forecast models list | show | promote | rollback`: which model is live, and why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from forecasting.backcast import held_out_verdict
from forecasting.forecasters import Graph, fit_city
from forecasting.gate import Verdict
from forecasting.reading import read_series
from forecasting.registry import RefusedError, Registry
from twin.commands.answers import SAYS_NO, answering
from twin.commands.forecast_terms import DEFAULT_MODELS, AsJson, Models

app = typer.Typer(help="List, show, promote and roll back models.", no_args_is_help=True)

_JUDGED_WINDOWS = 600
Name = Annotated[str, typer.Argument(metavar="NAME", help="A model: shipped, or a name from the list.")]


@app.command("list", epilog="Example: citytwin forecast models list --json")
def list_(models: Models = DEFAULT_MODELS, as_json: AsJson = False) -> None:
    """All models, the live one marked."""
    with answering():
        registry = Registry(models)
        live = registry.live()
        rows = [registry.load(name).summary() | {"name": name, "live": name == live} for name in registry.names()]
        if as_json:
            typer.echo(json.dumps({"live": live, "models": rows}, ensure_ascii=False))
            return
        table = Table("model", "live", "members", "parameters", "trained on")
        for row in rows:
            cities = ", ".join(str(city["name"]) for city in row["trained_on"])
            table.add_row(
                row["name"], "yes" if row["live"] else "", str(row["members"]), str(row["parameters"]), cities
            )
        Console().print(table)


@app.command(epilog="Example: citytwin forecast models show shipped")
def show(name: Name, models: Models = DEFAULT_MODELS, as_json: AsJson = False) -> None:
    """What a model was trained on, how, and how it scored."""
    with answering():
        text = json.dumps(Registry(models).load(name).summary(), ensure_ascii=False, indent=None if as_json else 2)
        typer.echo(text)


@app.command(epilog="Example: citytwin forecast models promote region --on city.npz")
def promote(
    name: Name,
    on: Annotated[Path, typer.Option("--on", help="Series whose days after the training part decide.")],
    models: Models = DEFAULT_MODELS,
    as_json: AsJson = False,
) -> None:
    """Make a model live if it beats ridge and profile on held-out days and its bands hold. Else end with 1."""
    with answering():
        registry = Registry(models)
        artifact = registry.load(name)
        series = read_series(on)
        _, validation, test = series.split_starts()
        rows = np.concatenate([validation, test])[-_JUDGED_WINDOWS:]
        verdict = held_out_verdict(fit_city(series), rows, Graph(artifact.members, name))
        try:
            registry.promote(name, verdict)
        except RefusedError as refused:
            _tell(name, registry.live(), verdict, as_json=as_json)
            raise typer.Exit(SAYS_NO) from refused
        _tell(name, registry.live(), verdict, as_json=as_json)


@app.command(epilog="Example: citytwin forecast models rollback")
def rollback(models: Models = DEFAULT_MODELS, as_json: AsJson = False) -> None:
    """Return to the model that was live before."""
    with answering():
        live = Registry(models).roll_back()
        typer.echo(json.dumps({"live": live}) if as_json else f"live: {live}")


def _tell(name: str, live: str, verdict: Verdict, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"model": name, "live": live, "verdict": verdict.as_dict()}, ensure_ascii=False))
        return
    for who, error in verdict.mae.items():
        typer.echo(f"{who}: mean absolute error {error:.4g}")
    for reason in verdict.reasons:
        typer.echo(f"refused: {reason}")
    typer.echo(f"live: {live}")
