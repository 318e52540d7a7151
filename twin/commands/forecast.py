"""`citytwin forecast bench`, `predict` and `sense`, and where verbs of other files join (import, train, models)."""

from __future__ import annotations

import csv
import json
import math
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

from forecasting.adapt import adapt_model
from forecasting.backcast import forecast_next, forecast_windows, warm_up
from forecasting.forecasters import FittedCity, Graph, LastValue, Profile, Ridge, WindowForecaster, fit_city
from forecasting.reading import read_series
from forecasting.registry import Registry
from forecasting.series import Float32s, Rows
from forecasting.stid import train_stid
from forecasting.virtual_sensors import fit_virtual_sensors
from forecasting.window_file import read_windows, write_forecasts
from networks.state import QUANTILES
from twin.commands import forecast_import, forecast_models, forecast_train
from twin.commands.answers import answering
from twin.commands.forecast_terms import DEFAULT_MODELS, AsJson, Models, progress

app = typer.Typer(help="Train, score and use the graph model.", no_args_is_help=True)

STID = "stid"
BASELINES: dict[str, Callable[[], WindowForecaster]] = {
    "ridge": Ridge,
    "profile": Profile,
    "last-value": LastValue,
}


@app.command(
    epilog="Example: citytwin forecast bench city.npz --windows windows.npz --model shipped --out forecasts.npz"
)
def bench(
    series: Annotated[Path, typer.Argument(metavar="FILE", help="Series of a city (folder, .npz, .h5, .csv).")],
    windows: Annotated[Path, typer.Option("--windows", "-w", help="Windows to forecast (.npz: x, t, train_rows).")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Forecasts to write: pred, q, levels, p_cong.")],
    model: Annotated[
        str, typer.Option("--model", "-m", help=f"shipped, a name from --models, or {', '.join(BASELINES)}, {STID}.")
    ] = "shipped",
    adapt: Annotated[
        bool, typer.Option("--adapt", help="Adapt the model to the city's training part first.")
    ] = False,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Steps of the adaptation.")] = 2400,
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
        city = fit_city(data, cut.training_rows, steps_in=cut.steps_in, steps_out=cut.steps_out)
        with progress("forecasting", len(cut.start_row) + (steps if adapt else 0)) as advance:
            forecaster = make_forecaster(
                model, Registry(models), city, adapt=adapt, steps=steps, seed=seed, on_step=advance,
                judged=warm_up(city, cut),
            )  # fmt: skip
            made = forecast_windows(city, cut, forecaster, guarded=is_model(model), on_part=advance)
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


@app.command(epilog="Example: citytwin forecast predict city.npz --out next_hour.csv")
def predict(
    series: Annotated[
        Path, typer.Argument(metavar="FILE", help="Series of a city (folder, .npz, .h5, .csv), newest last.")
    ],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="CSV to write: place, time, quantiles.")] = None,
    model: Annotated[
        str,
        typer.Option("--model", "-m", help=f"shipped, a name from --models, or {', '.join(BASELINES)}; else live."),
    ] = "",
    step_s: Annotated[int, typer.Option("--step", min=1, help="Seconds a step, where the file does not say.")] = 300,
    models: Models = DEFAULT_MODELS,
    as_json: AsJson = False,
) -> None:
    """Forecast the twelve steps after the end of a series, with quantiles, and name who made the forecast.

    Places that never report are forecast from virtual sensors, see `citytwin forecast sense`.
    """
    with answering():
        data = read_series(series, step_s=step_s)
        registry = Registry(models)
        name = model or registry.live()
        made, when = forecast_next(data, lambda city: make_forecaster(name, registry, city))
        quantiles = made.quantiles[0]  # (12, N, Q)
        if out is not None:
            congested = None if made.congested is None else made.congested[0]
            _write_csv(out, data.place_names(), when, quantiles, congested)
        times = [_clock(at) for at in when]
        means = [round(float(v), 3) for v in quantiles[..., QUANTILES.index(0.5)].mean(axis=1)]
        document = {
            "series": str(series),
            "model": name,
            "producers": made.producers,
            "feed_defects": made.defects,
            "held_out": made.verdict.as_dict() if made.verdict else None,
            "virtual_places": list(made.virtual_places),
            "time": times,
            "levels": list(QUANTILES),
            "mean_of_medians": means,
            "out": None if out is None else str(out),
        }
        if as_json:
            typer.echo(json.dumps(document, ensure_ascii=False))
            return
        table = Table("time", "mean over places", "by")
        for at, value in zip(times, means, strict=True):
            table.add_row(at, f"{value:g}", ", ".join(made.producers))
        Console().print(table)


@app.command(epilog="Example: citytwin forecast sense city.npz --out unseen.csv")
def sense(
    series: Annotated[Path, typer.Argument(metavar="FILE", help="Series of a city (folder, .npz), newest last.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="CSV to write: place, time, quantiles.")] = None,
    rows: Annotated[int, typer.Option("--rows", min=1, help="Newest steps to tell of.")] = 12,
    as_json: AsJson = False,
) -> None:
    """Read the places of a series that never report, from those that do (virtual sensors, horizon 0)."""
    with answering():
        data = read_series(series)
        virtual = fit_virtual_sensors(data, len(data.values))
        told = virtual.read(data.values[-rows:])  # (K, M, Q)
        if out is not None:
            _write_csv(out, [data.place_names()[k] for k in virtual.places], data.start_s[-rows:], told, None)
        document = {
            "series": str(series),
            "sensors": len(virtual.sensors),
            "places": virtual.places.tolist(),
            "time": [_clock(at) for at in data.start_s[-rows:]],
            "levels": list(QUANTILES),
            "newest": [[None if math.isnan(v) else round(v, 3) for v in place] for place in told[-1].tolist()],
            "out": None if out is None else str(out),
        }
        if as_json:
            typer.echo(json.dumps(document, ensure_ascii=False))
            return
        table = Table("place", "newest", "80 %")
        for place, (_, low, *_, middle, _, high, _) in zip(virtual.places, told[-1].tolist(), strict=True):
            table.add_row(str(place), f"{middle:.4g}", f"{low:.4g} to {high:.4g}")
        Console().print(table)
        typer.echo(f"{len(virtual.places)} places read from {len(virtual.sensors)} sensors")


def _write_csv(out: Path, places: Sequence[str], when: Rows, quantiles: Float32s, congested: Float32s | None) -> None:
    """Quantiles (K, N, Q) of N places at the steps `when`."""
    levels = [f"q{round(100 * level):02d}" for level in QUANTILES]
    with out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["place", "time", *levels, *(["p_congested"] if congested is not None else [])])
        for step, at in enumerate(when):
            for column, place in enumerate(places):
                row = [place, _clock(at), *(f"{v:.4g}" for v in quantiles[step, column])]
                writer.writerow(row if congested is None else [*row, f"{congested[step, column]:.4f}"])


def _clock(at_s: int) -> str:
    """Local wall time as the series counts it."""
    return datetime.fromtimestamp(int(at_s), UTC).strftime("%Y-%m-%dT%H:%M:%S")


def is_model(name: str) -> bool:
    """Whether a name means an artefact, whose forecasts are guarded, and not a baseline, which is scored as it is."""
    return name not in (*BASELINES, STID)


def make_forecaster(
    name: str, registry: Registry, city: FittedCity, *, adapt: bool = False, steps: int = 0, seed: int = 0,
    judged: Rows | None = None, on_step: Callable[[int], None] = lambda _: None,
) -> WindowForecaster:  # fmt: skip
    """The forecaster of this name: a baseline, or an artefact, adapted to the city where asked; `judged`: grid rows
    of windows after the training part that say how far to adapt."""
    if name in BASELINES:
        return BASELINES[name]()
    if name == STID:
        return train_stid(city, seed=seed, on_step=on_step)
    artifact = registry.load(name)
    if adapt:
        return adapt_model(
            artifact.name, artifact.members, city, steps=steps, seed=seed, on_step=lambda _: on_step(1),
            judged=None if judged is None else torch.from_numpy(judged),
        )  # fmt: skip
    return Graph(artifact.members, artifact.name)


# Verbs with files of their own join here.
app.command("import", epilog=forecast_import.EPILOG)(forecast_import.import_)
app.command(epilog=forecast_train.EPILOG)(forecast_train.train)
app.add_typer(forecast_models.app, name="models")
