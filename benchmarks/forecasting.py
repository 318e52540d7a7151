"""Every forecaster on every data set, by the outside referee: it cuts the windows, we forecast them, it scores.

python benchmarks/forecasting.py [--json] [--sets los_loop,berlin_2023] [--out FILE]
    [--referee ../shared/bench/forecast_bench.py]   the program that exports windows and scores forecasts
    [--data ../shared/data/forecasting]             folder of the sets
    [--columns profile,last-value,ridge,shipped]    forecasters; +adapt after a model adapts it to each city
    [--models FOLDER]                               own models: NAME takes one; NAME:HELD[:HELD] one that never saw
                                                    the sets HELD, scored on those alone
    [--seeds 3]                                     runs of the columns that train on a city (stid, +adapt)
    [--drop 0.3 --drop-kind node]                   the referee hides inputs

Results found in --out are not made again. Errors are the referee's mean absolute errors over twelve steps, in the
unit of the set; with several seeds the mean, and the standard deviation beside it. "coverage" is that of the 80 %
band.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from forecasting.backcast import forecast_windows, warm_up
from forecasting.forecasters import FittedCity, fit_city
from forecasting.reading import read_series
from forecasting.registry import Registry
from forecasting.window_file import read_windows, write_forecasts
from twin.commands.forecast import is_model, make_forecaster

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
COLUMNS = "profile,last-value,ridge,stid,shipped,shipped+adapt"


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    if not options.referee.is_file():
        print(f"--referee {options.referee}: no such file", file=sys.stderr)
        return 2
    sets = sorted(p.stem for p in options.data.glob("*.npz"))
    if options.sets:
        sets = options.sets.split(",")
    kept = _read(options.out)
    for name in sets:
        for column in options.columns.split(","):
            _fill(name, column, options, kept)
    table = _table(kept, options)
    if options.json:
        print(json.dumps({"rows": table, "runs": kept}, ensure_ascii=False))
    else:
        _show(table)
    return 0


def _fill(name: str, column: str, options: argparse.Namespace, kept: list[dict[str, Any]]) -> None:
    """Make the runs of one column on one set that are missing."""
    label, model, held, adapted = _column(column)
    if held and name not in held:
        return
    seeds = range(options.seeds if adapted or model == "stid" else 1)
    for seed in seeds:
        key = {"set": name, "column": label, "seed": seed, "drop": options.drop, "kind": options.drop_kind}
        if any(all(run[k] == v for k, v in key.items()) for run in kept):
            continue
        run = key | _run(name, model, adapted, seed, options)
        kept.append(run)
        if options.out:
            with options.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(run) + "\n")
        print(f"{name} {label} seed {seed}: {run['mae']:.3f}", file=sys.stderr)


def _run(name: str, model: str, adapted: bool, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """What `forecast bench` does, between the referee's own `export` and `score`; the city is fitted once."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        windows, forecasts, scores = folder / "windows.npz", folder / "forecasts.npz", folder / "scores.jsonl"
        drop = ["--drop", str(options.drop), "--drop-kind", options.drop_kind, "--data", str(options.data)]
        _referee(options.referee, "export", name, "--out", str(windows), *drop)
        began = time.monotonic()
        city = _city(options.data / f"{name}.npz")
        cut = read_windows(windows, city.series)
        forecaster = make_forecaster(
            model, Registry(options.models), city, adapt=adapted, steps=options.steps, seed=seed,
            judged=warm_up(city, cut),
        )  # fmt: skip
        made = forecast_windows(city, cut, forecaster, guarded=is_model(model))
        write_forecasts(forecasts, made.quantiles, made.congested)
        seconds = time.monotonic() - began
        _referee(options.referee, "score", name, "--pred", str(forecasts), "--json", str(scores), *drop)
        scored = json.loads(scores.read_text(encoding="utf-8").splitlines()[-1])
        row: dict[str, Any] = {
            "mae": scored["avg"]["mae"], "rmse": scored["avg"]["rmse"], "mape": scored["avg"]["mape"],
            "wape": scored["avg"]["wape"], "mae_h3": scored["h3"]["mae"], "mae_h6": scored["h6"]["mae"],
            "mae_h12": scored["h12"]["mae"], **scored["prob"], "producers": made.producers,
            "congestion": scored.get("congestion"), "seconds": round(seconds, 1),
        }  # fmt: skip
        if options.drop:
            row |= _dead_and_live(name, forecasts, options)
        return row


@lru_cache(maxsize=1)
def _city(path: Path) -> FittedCity:
    return fit_city(read_series(path))


def _referee(program: Path, *arguments: str) -> Any:
    """Run the program with these arguments, in this process: starting Python anew would cost more than the work."""
    module = _module(program)
    before, sys.argv = sys.argv, [str(program), *arguments]
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            module.main()
    finally:
        sys.argv = before


@lru_cache(maxsize=1)
def _module(program: Path) -> Any:
    spec = importlib.util.spec_from_file_location("referee", program)
    if spec is None or spec.loader is None:
        raise SystemExit(f"--referee {program}: cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _dead_and_live(name: str, forecasts: Path, options: argparse.Namespace) -> dict[str, float]:
    """Errors apart, at places whose inputs the referee hid and at the others; the referee's own mask."""
    referee = _module(options.referee)
    held = referee.load(name, [str(options.data)])
    truth = held.win(held.te)[1]
    hidden = referee.drop_mask(held, held.te, options.drop, options.drop_kind).any(axis=1)[:, None, :]
    with np.load(forecasts) as archive:
        error = np.abs(archive["pred"] - truth)
    known = np.isfinite(truth)
    return {
        "mae_dead": float(error[known & hidden].mean()) if hidden.any() else float("nan"),
        "mae_live": float(error[known & ~hidden].mean()),
    }


def _column(text: str) -> tuple[str, str, tuple[str, ...], bool]:
    """(label, model, sets it never saw, adapted) of NAME[:HELD...][+adapt]."""
    adapted = text.endswith("+adapt")
    model, *held = text.removesuffix("+adapt").split(":")
    label = "leave-out" if held else model
    return label + ("+adapt" if adapted else ""), model, tuple(held), adapted


def _table(kept: list[dict[str, Any]], options: argparse.Namespace) -> list[dict[str, Any]]:
    """One row a set and column: mean over seeds and spread."""
    rows = []
    chosen = [r for r in kept if r["drop"] == options.drop and r["kind"] == options.drop_kind]
    for name in sorted({r["set"] for r in chosen}):
        for label in dict.fromkeys(r["column"] for r in chosen if r["set"] == name):
            runs = [r for r in chosen if r["set"] == name and r["column"] == label]
            numbers = [k for k, v in runs[0].items() if isinstance(v, float) and k not in ("drop", "seconds")]
            row = {"set": name, "column": label, "seeds": len(runs)}
            row |= {k: float(np.mean([r[k] for r in runs])) for k in numbers}
            row["mae_sd"] = float(np.std([r["mae"] for r in runs], ddof=1)) if len(runs) > 1 else 0.0
            if runs[0]["congestion"]:
                row["brier"] = float(np.mean([r["congestion"]["brier"] for r in runs]))
                row["auroc"] = float(np.mean([r["congestion"]["auroc"] for r in runs]))
            rows.append(row)
    return rows


def _show(table: list[dict[str, Any]]) -> None:
    labels = list(dict.fromkeys(row["column"] for row in table))
    print("| set | " + " | ".join(labels) + " |\n|---" * 1 + "|---" * len(labels) + "|")
    for name in dict.fromkeys(row["set"] for row in table):
        cells = []
        for label in labels:
            row = next((r for r in table if r["set"] == name and r["column"] == label), None)
            spread = f" ± {row['mae_sd']:.2g}" if row and row["seeds"] > 1 else ""
            cells.append("–" if row is None else f"{row['mae']:.4g}{spread} ({row.get('cover80', float('nan')):.2f})")
        print(f"| {name} | " + " | ".join(cells) + " |")
    print("mean absolute error (coverage of the 80 % band)")


def _read(path: Path | None) -> list[dict[str, Any]]:
    if path is None or not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--referee", type=Path, default=SHARED / "bench" / "forecast_bench.py")
    parser.add_argument("--data", type=Path, default=SHARED / "data" / "forecasting")
    parser.add_argument("--models", type=Path, default=ROOT / "models")
    parser.add_argument("--sets", default="")
    parser.add_argument("--columns", default=COLUMNS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2400, help="of an adaptation")
    parser.add_argument("--drop", type=float, default=0.0)
    parser.add_argument("--drop-kind", choices=("node", "point", "block"), default="node")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--json", action="store_true")
    return parser


if __name__ == "__main__":
    sys.exit(main())
