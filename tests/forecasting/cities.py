"""Small drawn cities for tests of the forecasters."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from forecasting.series import CitySeries

MONDAY = 1_767_571_200  # 2026-01-05
STEP_S = 600
PER_DAY = 86400 // STEP_S


def drawn_city(
    days: int = 7, nodes: int = 6, *, seed: int = 0, quantity: str = "flow", missing: float = 0.02, noise: float = 1.0
) -> CitySeries:
    """Counts around a daily pattern, with a city-wide mood that lasts for hours."""
    rng = np.random.default_rng(seed)
    rows = days * PER_DAY
    level = rng.uniform(40.0, 200.0, nodes)
    day = 1.0 - 0.8 * np.cos(2 * np.pi * (np.arange(rows) % PER_DAY) / PER_DAY)
    mood = np.zeros(rows)
    for row in range(1, rows):
        mood[row] = 0.97 * mood[row - 1] + 0.05 * rng.normal()
    mean = level * day[:, None] * np.exp(mood)[:, None]
    values = np.maximum(mean + noise * np.sqrt(mean) * rng.normal(size=mean.shape), 0.0)
    if quantity == "speed":
        values = 60.0 / (1.0 + values / 400.0)
    values[rng.random(values.shape) < missing] = np.nan
    start = np.repeat(np.arange(nodes), 2)
    end = (start + np.tile([1, 2], nodes)) % nodes
    return CitySeries(
        "drawn", quantity, values.astype(np.float32), MONDAY + np.arange(rows) * STEP_S, STEP_S,
        np.stack([start, end]).astype(np.int64), np.full(2 * nodes, 300.0, np.float32),
    )  # fmt: skip


def write_city(path: Path, series: CitySeries, **changed: object) -> Path:
    """The series in our .npz layout, with fields replaced (None: left out)."""
    raw = np.where(np.isfinite(series.values), np.round(series.values * 10), 65535).astype(np.uint16)
    name = series.quantity
    arrays: dict[str, object] = {
        "ch": np.array([name]), f"x_{name}": raw, f"scale_{name}": 0.1, "t": series.start_s, "dt": series.step_s,
        "node": np.array([f"n{k}" for k in range(series.nodes)]), "edge_index": series.edges.astype(np.int32),
        "edge_dist": series.edge_length_m, "lat": np.full(series.nodes, np.nan), "lon": np.full(series.nodes, np.nan),
        "meta": json.dumps({"target": name, "split": [6, 2, 2], "licence": "drawn"}),
    }  # fmt: skip
    arrays |= changed
    np.savez(path, **{k: np.asarray(v) for k, v in arrays.items() if v is not None})
    return path


def write_windows(
    path: Path, series: CitySeries, *, count: int = 60, steps_in: int = 12, steps_out: int = 12
) -> Path:
    """The last windows of the last fifth, as a referee exports them."""
    all_starts = series.window_starts(steps_in + steps_out)
    starts, last_trained = all_starts[-count:], all_starts[round(0.6 * len(all_starts)) - 1]
    rows = starts[:, None] + np.arange(steps_in + steps_out)
    np.savez(path, x=series.values[rows[:, :steps_in]], t=series.start_s[rows], dt=series.step_s,
             train_rows=last_trained + steps_in + steps_out, start=starts)  # fmt: skip
    return path
