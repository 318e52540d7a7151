"""Rolling-origin scores of the baselines on a series: twelve steps in, twelve out, as models are usually compared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forecasting.baselines import fit_cells, leave_one_out, read_cells
from forecasting.windows import midpoints, with_gaps
from networks.errors import InputError
from networks.graph import Floats
from networks.state import History

STEPS_IN = STEPS_OUT = 12
MEMORY = 0.99  # a step: the decay of deviations is learnt from about the last hundred


@dataclass(frozen=True, slots=True)
class Series:
    """One quantity at N places; NaN is missing. Rows may skip time, windows never span a gap."""

    start_s: Floats  # (T,) local wall time of each interval's start
    step_s: float
    values: Floats  # (T, N)

    @staticmethod
    def of(history: History, quantity: str, *, utc_offset_s: float = 0.0) -> Series:
        """Flow ("flow_vps") or speed ("speed_mps") of a history."""
        values = with_gaps(getattr(history, quantity), history.valid)
        step_s = history.grid.step_s
        return Series(midpoints(history) - step_s / 2 + utc_offset_s, step_s, values)


@dataclass(frozen=True, slots=True)
class BacktestScore:
    name: str
    mae: Floats  # (12,) per horizon, in the unit of the series
    windows: int

    @property
    def mean_mae(self) -> float:
        return float(self.mae.mean())


def backtest(series: Series, *, split: tuple[float, float, float] = (6.0, 2.0, 2.0)) -> tuple[BacktestScore, ...]:
    """Persistence, profile, and profile with decaying deviation on the last part of the series.

    Windows are all runs of 24 steps without a gap in time, split in time order; profile and decay see training rows
    only. MAE over all present targets. Raises InputError when there are too few windows.
    """
    starts = contiguous_starts(series)
    first, second = (round(len(starts) * sum(split[:k]) / sum(split)) for k in (1, 2))
    if first < 1 or second >= len(starts):
        raise InputError(f"series of {len(series.values)} steps holds {len(starts)} windows: too few to backtest")
    train_rows = int(starts[first - 1]) + STEPS_IN + STEPS_OUT
    local_s = series.start_s + series.step_s / 2
    train = series.values[:train_rows]
    usual = _filled(read_cells(fit_cells(local_s[:train_rows], train, series.step_s), local_s, series.step_s), train)
    honest = usual.copy()
    honest[:train_rows] = _filled(leave_one_out(local_s[:train_rows], train, series.step_s), train)
    windows = _read_windows(series.values, honest, usual, starts, first)
    rho = _decay(windows, starts)
    test = slice(second, len(starts))
    known = np.isfinite(windows.truth[test])
    predictions = {
        "persistence": np.broadcast_to(windows.last[test, None], known.shape),
        "profile": windows.expected[test],
        "profile+deviation": windows.expected[test] + rho[test, :, None] * windows.deviation[test, None],
    }
    present = np.maximum(known.sum(axis=(0, 2)), 1)
    truth = np.where(known, windows.truth[test], 0.0)
    return tuple(
        BacktestScore(name, (np.abs(predicted - truth) * known).sum(axis=(0, 2)) / present, len(starts) - second)
        for name, predicted in predictions.items()
    )


def contiguous_starts(series: Series) -> NDArray[np.int64]:
    """First rows of all windows whose rows follow each other without a gap in time."""
    rows = STEPS_IN + STEPS_OUT
    if len(series.start_s) < rows:
        return np.zeros(0, np.int64)
    spans = series.start_s[rows - 1 :] - series.start_s[: len(series.start_s) - rows + 1]
    return np.flatnonzero(np.abs(spans - (rows - 1) * series.step_s) < series.step_s / 2)


@dataclass(frozen=True, slots=True)
class _Windows:
    truth: Floats  # (W, 12, N)
    expected: Floats  # (W, 12, N) profile
    deviation: Floats  # (W, N) from the profile over the last quarter of the inputs, 0 without a reading there
    last: Floats  # (W, N) last value; profile plus deviation where it is missing


def _read_windows(values: Floats, honest: Floats, usual: Floats, starts: NDArray[np.int64], train: int) -> _Windows:
    """Cut the windows; those of the training part look at the profile that left their own rows out."""
    rows_in = starts[:, None] + np.arange(STEPS_IN)
    rows_out = starts[:, None] + np.arange(STEPS_IN, STEPS_IN + STEPS_OUT)
    inputs = values[rows_in]
    past, expected = usual[rows_in], usual[rows_out]
    past[:train], expected[:train] = honest[rows_in[:train]], honest[rows_out[:train]]
    recent = (inputs - past)[:, -STEPS_IN // 4 :]
    known = np.isfinite(recent)
    deviation = np.where(known, recent, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    last = np.where(np.isfinite(inputs[:, -1]), inputs[:, -1], past[:, -1] + deviation)
    return _Windows(values[rows_out], expected, deviation, last)


def _decay(windows: _Windows, starts: NDArray[np.int64]) -> Floats:
    """How much of a deviation is left at each horizon (W, 12): least squares within 0..1 over the windows whose truth
    was known when each window's inputs ended, older ones fading. It goes on learning, as it does live."""
    later = windows.truth - windows.expected
    known = np.isfinite(later)
    product = np.where(known, later * windows.deviation[:, None], 0.0).sum(axis=2)
    square = np.where(known, np.broadcast_to(windows.deviation[:, None] ** 2, later.shape), 0.0).sum(axis=2)
    rho = np.zeros(product.shape)
    sums = np.zeros((2, STEPS_OUT))
    finished = 0
    for window, start in enumerate(starts):
        while starts[finished] + STEPS_IN + STEPS_OUT <= start + STEPS_IN:
            sums = MEMORY * sums + np.stack([product[finished], square[finished]])
            finished += 1
        rho[window] = np.clip(sums[0] / np.maximum(sums[1], 1e-12), 0.0, 1.0)
    return rho


def _filled(usual: Floats, train: Floats) -> Floats:
    """Cells never seen take the place's median over training, places never seen the median of all."""
    known = np.isfinite(train)
    overall = float(np.median(train[known])) if known.any() else 0.0
    place = np.array(
        [np.median(column[np.isfinite(column)]) if np.isfinite(column).any() else overall for column in train.T]
    )
    return np.where(np.isfinite(usual), usual, place)
