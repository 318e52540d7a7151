"""Windows to forecast, as a referee cuts them, and the forecasts given back: `.npz` in and out."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from forecasting.series import STEPS_IN, STEPS_OUT, WINDOW, CitySeries, Float32s, Rows
from networks.errors import InputError
from networks.graph import Floats
from networks.state import QUANTILES


@dataclass(frozen=True, slots=True)
class WindowSet:
    """S windows of I inputs, at most twelve; the O steps after them are to be forecast."""

    values: Float32s  # (S, I, N) in the unit of the series, NaN missing
    start_row: Rows  # (S,) row of the series at which each begins
    training_rows: int  # rows of the series that may be fitted on
    steps_out: int = STEPS_OUT

    @property
    def steps_in(self) -> int:
        return int(self.values.shape[1])


def read_windows(path: Path, series: CitySeries) -> WindowSet:
    """Read `x` (S, I, N), `t` (S, I + O) and `train_rows`, I and O at most 12. Raises InputError when they do not fit
    the series."""
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        with np.load(path, allow_pickle=False) as archive:
            missing = [key for key in ("x", "t", "train_rows") if key not in archive.files]
            if missing:
                raise InputError(f"{path}: has no {missing[0]!r}")
            values, when, training = archive["x"], archive["t"], int(archive["train_rows"])
    except (zipfile.BadZipFile, EOFError, ValueError) as defect:
        raise InputError(f"{path}: not a readable .npz: {defect}") from defect
    if values.ndim != 3 or values.shape[2] != series.nodes or not 1 <= values.shape[1] <= STEPS_IN:
        raise InputError(f"{path}: x is {values.shape}, expected (windows, 1 to {STEPS_IN} steps, {series.nodes})")
    steps_in = values.shape[1]
    if when.ndim != 2 or len(when) != len(values) or not 1 <= when.shape[1] - steps_in <= STEPS_OUT:
        wanted = f"({len(values)}, {steps_in} steps and 1 to {STEPS_OUT} more)"
        raise InputError(f"{path}: t is {when.shape}, expected {wanted}")
    if not WINDOW <= training <= len(series.values):
        raise InputError(f"{path}: train_rows is {training}, the series has {len(series.values)} rows")
    row = np.searchsorted(series.start_s, when[:, 0])
    if len(row) and ((row >= len(series.start_s)).any() or (series.start_s[row] != when[:, 0]).any()):
        raise InputError(f"{path}: t: windows begin at times that the series does not have")
    if len(row) and int(row.min()) < training - WINDOW:
        raise InputError(f"{path}: t: a window begins inside the {training} rows of the training part")
    return WindowSet(values.astype(np.float32), row.astype(np.int64), training, when.shape[1] - steps_in)


def write_forecasts(path: Path, quantiles: Float32s, congested: Float32s | None) -> None:
    """Write `pred`, `q`, `levels` and, for speeds, `p_cong`. quantiles (S, O, N, Q), congested (S, O, N)."""
    arrays: dict[str, Float32s | Floats] = {
        "pred": quantiles[..., QUANTILES.index(0.5)],
        "q": quantiles,
        "levels": np.array(QUANTILES),
    }
    if congested is not None:
        arrays["p_cong"] = congested
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:  # a file: savez would add an ending of its own
        np.savez(file, **arrays)  # type: ignore[arg-type]
