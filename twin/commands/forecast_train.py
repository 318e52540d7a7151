"""`citytwin forecast train`: a graph model from series of one or many cities."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from forecasting.artifact import Artifact
from forecasting.backcast import held_out_verdict
from forecasting.courses import make_courses
from forecasting.forecasters import Graph, fit_city
from forecasting.model import GraphModel, ModelShape
from forecasting.reading import read_series
from forecasting.registry import Registry
from forecasting.series import CitySeries
from forecasting.train import Plan, join_processes, native_bf16, train_model
from twin.commands.answers import SAYS_NO, answering
from twin.commands.forecast_terms import DEFAULT_MODELS, AsJson, Models, progress

EPILOG = "Example: citytwin forecast train north.npz south.npz --name region --steps 3000 --members 2"
_JUDGED_WINDOWS = 300


def train(
    series: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Series of the cities (folder, .npz, .h5, .csv).")
    ],
    name: Annotated[str, typer.Option("--name", help="What the model will be called.")],
    steps: Annotated[int, typer.Option(min=1, help="Steps of each member.")] = 3000,
    members: Annotated[
        int, typer.Option(min=1, max=16, help="Models from different seeds; their mean forecasts.")
    ] = 1,
    hidden: Annotated[int, typer.Option(min=8, help="Numbers that describe a place inside the model.")] = 128,
    seed: Annotated[int, typer.Option(min=0, help="Equal seeds train alike.")] = 0,
    threads: Annotated[int, typer.Option(min=0, help="Threads; 0: what torch takes.")] = 0,
    models: Models = DEFAULT_MODELS,
    as_json: AsJson = False,
) -> None:
    """Train on the training parts of all series and judge on the days after them.

    A training that was interrupted goes on from its last checkpoint when the same command is given again. Exit code
    1: the model was kept, but it is not better than ridge and profile on every series, or its bands do not hold.
    """
    with answering():
        if threads:
            torch.set_num_threads(threads)
        began = time.monotonic()
        registry = Registry(models)
        registry.check_name(name)
        cities = [read_series(path) for path in series]
        with progress("preparing cities", len(cities)) as advance:
            courses = make_courses(cities, seed=seed, tell=lambda _: advance(1))
        shape = ModelShape(hidden=hidden)
        trained: list[GraphModel] = []
        with progress("training", steps * members) as advance:
            for member in range(members):
                plan = Plan(steps=steps, seed=seed + member, bf16=native_bf16())
                checkpoint = models / f"{name}.training" / f"member{member}.pt"
                done = train_model(
                    courses, shape, plan, checkpoint=checkpoint, on_resume=advance, on_step=lambda _s, _l: advance(1)
                )
                trained.append(done.model)
        if join_processes()[0] > 0:  # of several under torchrun, which end alike, the first one writes
            return
        scores = _scores(cities, trained)
        artifact = Artifact(name, trained, [_told(c) for c in cities], plan.as_dict(), scores)
        path = registry.add(artifact)
        passes = all(row["passes"] for row in scores.values())
        document = {**artifact.summary(), "path": str(path), "passes": passes,
                    "seconds": round(time.monotonic() - began, 1)}  # fmt: skip
        if as_json:
            typer.echo(json.dumps(document, ensure_ascii=False))
        else:
            typer.echo(f"{path}: {artifact.parameters} parameters, {len(trained)} members")
            for city, row in scores.items():
                errors = ", ".join(f"{who} {error:.4g}" for who, error in row["mae"].items())
                typer.echo(f"{city}: {errors}; {'passes' if row['passes'] else '; '.join(row['reasons'])}")
        if not passes:
            raise typer.Exit(SAYS_NO)


def _scores(cities: list[CitySeries], trained: list[GraphModel]) -> dict[str, Any]:
    """The gate's verdict for each city, on the windows of its validation part."""
    scores = {}
    for series in cities:
        rows = series.split_starts()[1]
        city = fit_city(series)
        verdict = held_out_verdict(city, rows[-_JUDGED_WINDOWS:], Graph(trained))
        scores[series.name] = verdict.as_dict()
    return scores


def _told(series: CitySeries) -> dict[str, Any]:
    return {
        "name": series.name,
        "fingerprint": series.fingerprint(),
        "licence": str(series.meta.get("licence", "not stated")),
        "training_rows": series.training_rows(),
        "step_s": series.step_s,
        "places": series.nodes,
    }
