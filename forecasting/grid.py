"""The rows of a series on a time grid without gaps, so that the same time on another day is whole rows away."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forecasting.free_days import lived_weekday
from forecasting.series import DAY_S, WEEK_S, Float32s, Rows
from networks.errors import InputError


@dataclass(frozen=True, slots=True)
class Grid:
    """Series rows on a grid without gaps."""

    row: Rows  # (T,) grid row of each series row
    start_s: Rows  # (G,) of each grid row, whole weeks of emptiness taken out
    per_day: int
    weekday: NDArray[np.int64]  # (G,) 0 = Monday; what the day is lived like, holidays like a Sunday

    @staticmethod
    def of(start_s: Rows, step_s: int, country: str = "", worked: frozenset[str] = frozenset()) -> Grid:
        """`country`, `worked`: see `free_days.lived_weekday`. Raises InputError when two rows fall into one step."""
        per_day = max(1, round(DAY_S / step_s))
        jumps = np.diff(start_s, prepend=start_s[:1])
        spare = np.maximum(jumps - DAY_S, 0) // WEEK_S * WEEK_S  # a day of emptiness stays, so that parts never touch
        taken_out = np.cumsum(spare)
        compact = start_s - taken_out
        row = np.round((compact - compact[0]) / step_s).astype(np.int64)
        if (np.diff(row) <= 0).any():
            raise InputError("t: two rows fall into one step")
        grid_s = compact[0] + np.arange(int(row[-1]) + 1) * step_s
        before = np.searchsorted(row, np.arange(len(grid_s)), side="right") - 1  # newest series row of each
        return Grid(row, grid_s, per_day, lived_weekday(grid_s + taken_out[before], country, worked))

    def place(self, values: Float32s) -> Float32s:
        """Values (T, N) of the series on the grid (G, N), NaN where there is no row."""
        placed = np.full((len(self.start_s), values.shape[1]), np.nan, np.float32)
        placed[self.row] = values
        return placed
