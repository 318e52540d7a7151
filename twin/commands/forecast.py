"""`citytwin forecast bench`, and where the verbs of other files join (train, predict, models)."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from forecasting.adapt import adapt_model
from forecasting.backcast import forecast_windows
from forecasting.forecasters import FittedCity, Graph, LastValue, Profile, Ridge, WindowForecaster, fit_city
from forecasting.reading import read_series
from forecasting.registry import Registry
from forecasting.window_file import read_windows, write_forecasts
from twin.commands.answers import answering

app = typer.Typer(help="Train, score and use the graph model.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
Models = Annotated[Path, typer.Option("--models", help="Folder of own models.", envvar="CITYTWIN_MODELS")]
DEFAULT_MODELS = Path("models")
BASELINES: dict[str, Callable[[], WindowForecaster]] = {
    "ridge": Ridge,
    "profile": Profile,
    "last-value": LastValue,
}


@app.command(
    epilog="Example: citytwin forecast bench city.npz --windows windows.npz --model shipped --out forecasts.npz"
)
def bench(
    series: Annotated[Path, typer.Argument(metavar="FILE", help="Series of a city (.npz, .h5, .csv).")],
    windows: Annotated[Path, typer.Option("--windows", "-w", help="Windows to forecast (.npz: x, t, train_rows).")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Forecasts to write: pred, q, levels, p_cong.")],
    model: Annotated[
        str, typer.Option("--model", "-m", help=f"shipped, a name from --models, or {', '.join(BASELINES)}.")
    ] = "shipped",
    adapt: Annotated[
        bool, typer.Option("--adapt", help="Adapt the model to the city's training part first.")
    ] = False,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Steps of the adaptation.")] = 1200,
    threads: Annotated[int, typer.Option(min=0, help="Threads; 0: what torch takes.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Equal seeds adapt alike.")] = 0,
    models: Models = DEFAULT_MODELS,
    as_json: AsJson = False,
) -> None:
    """Forecast the windows that a referee cut from a series.

    Profile, scales and ridge are fitted on the training part alone; for each window only rows before its start are
    read, and its own twelve. Where the model loses to the ridge or the profile on the held-out windows before the
    first forecast, they take over.
    """
    with answering():
        if threads:
            torch.set_num_threads(threads)
        began = time.monotonic()
        data = read_series(series)
        cut = read_windows(windows, data)
        city = fit_city(data, cut.training_rows)
        with progress("forecasting", len(cut.start_row) + (steps if adapt else 0)) as advance:
            forecaster = make_forecaster(
                model, Registry(models), city, adapt=adapt, steps=steps, seed=seed, on_step=advance
            )
            made = forecast_windows(city, cut, forecaster, gated=model not in BASELINES, on_part=advance)
        write_forecasts(out, made.quantiles, made.congested)
        document = {
            "series": str(series),
            "windows": len(cut.start_row),
            "model": model,
            "forecaster": forecaster.name,
            "producers": made.producers,
            "feed_defects": made.defects,
            "held_out": made.verdict.as_dict() if made.verdict else None,
            "reliability_of_profile": round(city.context.reliability, 3),
            "out": str(out),
            "seconds": round(time.monotonic() - began, 1),
        }
        if as_json:
            typer.echo(json.dumps(document, ensure_ascii=False))
        else:
            made_by = ", ".join(f"{name} {count}" for name, count in made.producers.items())
            typer.echo(f"{out}: {len(cut.start_row)} windows, by {made_by}; {document['seconds']} s")


def make_forecaster(
    name: str, registry: Registry, city: FittedCity, *, adapt: bool, steps: int, seed: int,
    on_step: Callable[[int], None],
) -> WindowForecaster:  # fmt: skip
    """The forecaster of this name: a baseline, or an artefact, adapted to the city where asked."""
    if name in BASELINES:
        return BASELINES[name]()
    artifact = registry.load(name)
    if adapt:
        return adapt_model(
            artifact.name, artifact.members, city, steps=steps, seed=seed, on_step=lambda _: on_step(1)
        )
    return Graph(artifact.members, artifact.name)


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on stderr; the yielded function moves it on."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f} %"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)
