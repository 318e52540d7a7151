"""`citytwin forecast models list | show | try | promote | rollback`: which model is live, and why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from forecasting.artifact import Artifact
from forecasting.backcast import held_out_verdict
from forecasting.forecasters import Graph, fit_city
from forecasting.gate import Verdict
from forecasting.reading import read_series
from forecasting.registry import RefusedError, Registry
from networks.errors import InputError
from twin.commands.answers import SAYS_NO, answering
from twin.commands.forecast_terms import DEFAULT_MODELS, AsJson, Models
from twin.forecast_table import shadow_verdict

app = typer.Typer(help="List, show, try, promote and roll back models.", no_args_is_help=True)

_JUDGED_WINDOWS = 600
Name = Annotated[str, typer.Argument(metavar="NAME", help="A model: shipped, or a name from the list.")]


@app.command("list", epilog="Example: citytwin forecast models list --json")
def list_(models: Models = DEFAULT_MODELS, as_json: AsJson = False) -> None:
    """All models, the live one marked."""
    with answering():
        registry = Registry(models)
        live, candidate = registry.live(), registry.candidate()
        rows = [registry.load(name).summary() | {"name": name, "live": name == live} for name in registry.names()]
        if as_json:
            typer.echo(json.dumps({"live": live, "candidate": candidate, "models": rows}, ensure_ascii=False))
            return
        table = Table("model", "live", "members", "parameters", "trained on")
        for row in rows:
            cities = ", ".join(str(city["name"]) for city in row["trained_on"])
            state = "yes" if row["live"] else "in its shadow" if row["name"] == candidate else ""
            table.add_row(row["name"], state, str(row["members"]), str(row["parameters"]), cities)
        Console().print(table)


@app.command(epilog="Example: citytwin forecast models show shipped")
def show(name: Name, models: Models = DEFAULT_MODELS, as_json: AsJson = False) -> None:
    """What a model was trained on, how, and how it scored."""
    with answering():
        text = json.dumps(Registry(models).load(name).summary(), ensure_ascii=False, indent=None if as_json else 2)
        typer.echo(text)


@app.command("try", epilog="Example: citytwin forecast models try region")
def try_(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="The candidate; none: nobody.")] = None,
    models: Models = DEFAULT_MODELS,
    as_json: AsJson = False,
) -> None:
    """Let a candidate run in the shadow of the live model: scored on the same readings in every run, never served."""
    with answering():
        Registry(models).try_out(name)
        typer.echo(json.dumps({"candidate": name}) if as_json else f"in the shadow: {name or 'nobody'}")


@app.command(epilog="Example: citytwin forecast models promote region --on city.npz")
def promote(
    name: Name,
    on: Annotated[Path | None, typer.Option("--on", help="Series whose days after the training part decide.")] = None,
    after: Annotated[
        Path | None, typer.Option("--after", help="result.json of a run in whose shadow it was scored: that decides.")
    ] = None,
    models: Models = DEFAULT_MODELS,
    as_json: AsJson = False,
) -> None:
    """Make a model live if it beats ridge and profile on held-out days and its bands hold. Else end with 1."""
    with answering():
        registry = Registry(models)
        artifact = registry.load(name)
        if (on is None) == (after is None):
            raise InputError("one of --on and --after says what decides")
        verdict = _on_series(artifact, name, on) if on is not None else _after_run(name, after or Path())
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


def _on_series(artifact: Artifact, name: str, on: Path) -> Verdict:
    series = read_series(on)
    _, validation, test = series.split_starts()
    rows = np.concatenate([validation, test])[-_JUDGED_WINDOWS:]
    return held_out_verdict(fit_city(series), rows, Graph(artifact.members, name))


def _after_run(name: str, result: Path) -> Verdict:
    try:
        document = json.loads(result.read_text(encoding="utf-8"))["forecast"]
    except (OSError, json.JSONDecodeError, KeyError, TypeError) as defect:
        raise InputError(f"{result}: forecast: not readable as the result of a run: {defect}") from defect
    return shadow_verdict(document, name)


def _tell(name: str, live: str, verdict: Verdict, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"model": name, "live": live, "verdict": verdict.as_dict()}, ensure_ascii=False))
        return
    for who, error in verdict.mae.items():
        typer.echo(f"{who}: mean absolute error {error:.4g}")
    for reason in verdict.reasons:
        typer.echo(f"refused: {reason}")
    typer.echo(f"live: {live}")
