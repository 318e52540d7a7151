"""How well places without a sensor are read: sensors hidden from the first row on, in turn.

    python benchmarks/virtual_sensing.py [--data ../shared/data/forecasting] [--sets los_loop,...] [--json]

Each fold's sensors are hidden wholly, history included; the others are fitted on the training part, and read the
hidden ones over the test part. Beside: the mean of all sensors at that time, the nearest one, and the five nearest
weighted by the inverse of their way. Mean absolute error over hidden places and times, over seeds of the folds.

With --ahead the shipped model forecasts the hidden places too, twelve steps from virtual readings; beside, the same
model where they report (`sensed`), and the profile of the virtual readings.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from forecasting.backcast import forecast_windows
from forecasting.forecasters import Graph, Profile, WindowForecaster, fit_city
from forecasting.kriging import ways_between
from forecasting.reading import read_series
from forecasting.registry import Registry
from forecasting.series import WINDOW, CitySeries
from forecasting.virtual_sensors import LEAST_SENSORS, fit_virtual_sensors, with_virtual_sensors
from forecasting.window_file import WindowSet
from networks.graph import Bools, Floats
from networks.state import QUANTILES

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "forecasting"
NEAREST = 5
BANDS = ((0.8, 0.1, 0.9), (0.9, 0.05, 0.95))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--sets", default="", help="names by commas; all that have enough places")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ahead", action="store_true", help="forecast as well; one fold of one seed")
    parser.add_argument("--json", action="store_true")
    order = parser.parse_args(arguments)
    rows = []
    for path in sorted(order.data.glob("*.npz")):
        if order.sets and path.stem not in order.sets.split(","):
            continue
        series = read_series(path)
        if series.nodes >= 2 * LEAST_SENSORS:
            rows.append(ahead(series, order.folds) if order.ahead else score(series, order.folds, order.seeds))
            if not order.json:
                print(" ".join(f"{key}={value}" for key, value in rows[-1].items()), flush=True)
    if order.json:
        print(json.dumps({"sets": rows}))
    return 0


def score(series: CitySeries, folds: int, seeds: int) -> dict[str, object]:
    """Errors of one set, and how much the bands hold."""
    training, test = series.training_rows(), int(series.split_starts()[2][0]) + WINDOW // 2
    ways = ways_between(series.nodes, series.edges, series.edge_length_m)
    truth = series.values[test:]
    per_seed = []
    for seed in range(1, seeds + 1):
        drawn = np.random.default_rng(seed).permutation(series.nodes)
        errors: dict[str, list[Floats]] = {}
        for fold in range(folds):
            hidden = np.sort(drawn[fold::folds])
            part = _without(series, hidden)
            virtual = fit_virtual_sensors(part, training)
            mine = np.isin(virtual.places, hidden)
            made = virtual.read(part.values[test:])[:, mine]
            at = virtual.places[mine]
            rivals = {
                **_rivals(part.values[test:], ways, virtual.sensors, at),
                "ours": made[..., QUANTILES.index(0.5)],
            }
            seen = np.isfinite(truth[:, at]) & np.logical_and.reduce([np.isfinite(v) for v in rivals.values()])
            for name, said in rivals.items():
                errors.setdefault(name, []).append(np.abs(said - truth[:, at])[seen])
            for nominal, inside in _inside(made, truth[:, at]).items():
                errors.setdefault(f"band_{nominal:g}", []).append(inside[seen].astype(np.float64))
        per_seed.append({name: float(np.concatenate(parts).mean()) for name, parts in errors.items()})
    answer: dict[str, object] = {"set": series.name, "places": series.nodes}
    for name in per_seed[0]:
        each = [row[name] for row in per_seed]
        answer[name] = round(float(np.mean(each)), 4)
        answer[f"{name}_spread"] = round(float(np.std(each)), 4)
    return answer


def ahead(series: CitySeries, folds: int) -> dict[str, object]:
    """Errors of forecasts of hidden places, mean over twelve steps."""
    training, starts = series.training_rows(), series.split_starts()[2]
    hidden = np.sort(np.random.default_rng(1).permutation(series.nodes)[::folds])
    part = _without(series, hidden)
    virtual = fit_virtual_sensors(part, training)
    filled = with_virtual_sensors(part, virtual)
    mine = virtual.places[np.isin(virtual.places, hidden)]
    artifact = Registry(Path()).load("shipped")
    truth = series.values[starts[:, None] + np.arange(WINDOW // 2, WINDOW)][..., mine]
    seen = np.isfinite(truth)
    answer: dict[str, object] = {"set": series.name, "places": series.nodes, "hidden": len(mine)}
    cases: dict[str, tuple[CitySeries, WindowForecaster]] = {
        "virtual": (filled, Graph(artifact.members)),
        "virtual_profile": (filled, Profile()),
        "sensed": (series, Graph(artifact.members)),
    }
    for name, (rows, forecaster) in cases.items():
        cut = WindowSet(rows.values[starts[:, None] + np.arange(WINDOW // 2)], starts, training)
        made = forecast_windows(
            fit_city(rows, training), cut, forecaster, guarded=name != "virtual_profile"
        ).quantiles
        told = virtual.widen(made[:, :, virtual.places]) if name != "sensed" else made[:, :, virtual.places]
        told = told[:, :, np.isin(virtual.places, mine)]
        answer[name] = round(float(np.abs(told[..., QUANTILES.index(0.5)] - truth)[seen].mean()), 3)
        for nominal, inside in _inside(told, truth).items():
            answer[f"{name}_band_{nominal:g}"] = round(float(inside[seen].mean()), 3)
    return answer


def _without(series: CitySeries, places: np.ndarray) -> CitySeries:
    """The series with these places silent all the time."""
    values = series.values.copy()
    values[:, places] = np.nan
    return replace(series, values=values)


def _inside(quantiles: np.ndarray, truth: np.ndarray) -> dict[float, Bools]:
    """Which truths lie in each of the bands, by what they promise."""
    return {
        nominal: (truth >= quantiles[..., QUANTILES.index(low)]) & (truth <= quantiles[..., QUANTILES.index(high)])
        for nominal, low, high in BANDS
    }


def _rivals(values: np.ndarray, ways: Floats, sensors: np.ndarray, at: np.ndarray) -> dict[str, Floats]:
    """What simple rules say of places (K, M)."""
    seen = np.isfinite(values[:, sensors])
    filled = np.where(seen, values[:, sensors], 0.0).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.broadcast_to((filled.sum(axis=1) / seen.sum(axis=1))[:, None], (len(values), len(at)))
        way = np.maximum(ways[np.ix_(at, sensors)], 1.0)
        weight = 1.0 / way
        farthest = np.sort(way, axis=1)[:, min(NEAREST, len(sensors)) - 1]
        several = np.where(way <= farthest[:, None], weight, 0.0)
        weighted = (filled @ several.T) / (seen @ several.T)
        nearest = values[:, sensors[way.argmin(axis=1)]]
    return {
        "mean": mean,
        "nearest": np.where(np.isfinite(nearest), nearest, mean),
        "five_nearest": np.where(np.isfinite(weighted), weighted, mean),
    }


if __name__ == "__main__":
    sys.exit(main())
