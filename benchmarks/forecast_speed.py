"""Seconds and memory of one forecast on the processor: the graph model beside an STID and an attention net.

python benchmarks/forecast_speed.py [--json] [--links 1000,5000,20000] [--threads 2] [--repeats 5] [--model PATH]

The network is drawn: links with four neighbours each and two days of readings every five minutes. A forecast is one
window of all links: features, ridge and model to quantiles of twelve steps; profile and ridge are fitted beforehand
and not timed. Wall time and processor time: on a busy machine only the second says what a forecast costs.

"STID" is `forecasting.stid`; "attention" has the shape of STAEformer (Liu et al. 2023: attention over steps, then
over links, width 152, 4 heads, 3 layers each), with random weights, at sizes whose square fits. Each forecaster and
size runs in a process of its own, so that the peak memory is its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from forecasting.artifact import SHIPPED, load_artifact
from forecasting.city_context import fit_context, grid_starts
from forecasting.features import window_features
from forecasting.forecasters import FittedCity, Graph
from forecasting.lags import fit_lags
from forecasting.ridge import fit_ridge
from forecasting.series import CitySeries
from forecasting.stid import Stid, StidNet

ATTENTION_MOST_LINKS = 5000
WIDTH, HEADS, LAYERS, STEPS = 152, 4, 3, 12
MODELS = ("graph model", "STID", "attention")


class Attention(torch.nn.Module):
    """(links, 12, 3) -> (links, 12): attention over steps and then over links."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = torch.nn.Linear(3, WIDTH)
        self.layers = torch.nn.ModuleList(
            torch.nn.TransformerEncoderLayer(WIDTH, HEADS, 256, 0.0, batch_first=True) for _ in range(2 * LAYERS)
        )
        self.leave = torch.nn.Linear(STEPS * WIDTH, STEPS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = self.enter(x)
        for layer in self.layers[:LAYERS]:
            z = layer(z)
        z = z.transpose(0, 1)
        for layer in self.layers[LAYERS:]:
            z = torch.cat([layer(z[k : k + 1]) for k in range(STEPS)])
        answer: torch.Tensor = self.leave(z.transpose(0, 1).flatten(1))
        return answer


def drawn_city(links: int) -> FittedCity:
    rng = np.random.default_rng(0)
    rows = 2 * 288
    level = rng.lognormal(5.0, 0.7, links).astype(np.float32)
    day = 1.0 - 0.8 * np.cos(2 * np.pi * np.arange(rows) / 288)
    values = rng.poisson(level * day[:, None]).astype(np.float32)
    start = np.repeat(np.arange(links), 4)
    end = (start + np.tile([1, 2, 3, 5], links)) % links
    series = CitySeries(
        "drawn", "flow", values, 1_767_571_200 + np.arange(rows) * 300, 300, np.stack([start, end]).astype(np.int64),
        np.full(len(start), 200.0, np.float32),
    )  # fmt: skip
    context = fit_context(series, rows)
    starts = series.window_starts()[-16:]  # the time of a forecast does not depend on how well the ridge is fitted
    on_grid = grid_starts(context, starts)
    return FittedCity(series, context, fit_ridge(context, on_grid), fit_lags(context, on_grid), on_grid)


def measure(model: str, links: int, threads: int, repeats: int, path: Path) -> dict[str, float | str]:
    torch.set_num_threads(threads)
    if model == "attention":
        net, x = Attention().eval(), torch.randn(links, STEPS, 3)
        call: Callable[[], object] = lambda: net(x)  # noqa: E731
    else:
        city = drawn_city(links)
        start = city.starts[-1:]
        graph = Graph(load_artifact(path).members) if model == "graph model" else None
        forecaster = graph or Stid(StidNet(links, city.context.grid.per_day))
        call = lambda: forecaster.quantiles(city, window_features(city.context, start), start)  # noqa: E731
    with torch.no_grad():
        call()
        times, used = [], []
        for _ in range(repeats):
            began, began_cpu = time.perf_counter(), time.process_time()
            call()
            times.append(time.perf_counter() - began)
            used.append(time.process_time() - began_cpu)
    return {
        "model": model, "links": links, "threads": threads, "median_ms": 1e3 * float(np.median(times)),
        "worst_ms": 1e3 * max(times), "cpu_ms": 1e3 * float(np.median(used)),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--links", default="1000,5000,20000")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--model", type=Path, default=SHIPPED)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", nargs=2, metavar=("MODEL", "LINKS"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one:
        print(
            json.dumps(measure(options.one[0], int(options.one[1]), options.threads, options.repeats, options.model))
        )
        return 0
    rows = []
    for links in (int(text) for text in options.links.split(",")):
        for model in MODELS:
            if model == "attention" and links > ATTENTION_MOST_LINKS:
                continue
            command = [sys.executable, __file__, "--one", model, str(links), "--threads", str(options.threads)]
            command += ["--repeats", str(options.repeats), "--model", str(options.model)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            rows.append(json.loads(done.stdout.splitlines()[-1]))
    if options.json:
        print(json.dumps({"rows": rows}))
    else:
        for row in rows:
            times = f"{row['median_ms']:8.1f} ms, worst {row['worst_ms']:8.1f}, processor {row['cpu_ms']:8.1f}"
            print(f"{row['model']:12s} {row['links']:6d} links {times}, {row['peak_mib']:.0f} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
