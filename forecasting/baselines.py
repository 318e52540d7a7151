"""What every forecast must beat, and falls back to: persistence and the historical profile."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from forecasting.windows import midpoints, window_mean, with_gaps
from networks.graph import Bools, Floats
from networks.state import History, check_shapes

DAY_S = 86400.0
_MONDAY_SHIFT_DAYS = 3  # 1970-01-01 was a Thursday
ROBUST_WEEKS = 3  # below this, a week's cell holds too few values for its own median: pool by day type


@dataclass(frozen=True, slots=True)
class Expectation:
    """Expected edge flow and speed at K moments."""

    flow_vps: Floats  # (K, E)
    speed_mps: Floats  # (K, E)
    valid: Bools  # (K, E)


class Persistence:
    """The mean of the last `window_s` goes on: long enough to hold two signal cycles."""

    name = "persistence"

    def __init__(self, window_s: float = 300.0) -> None:
        self.window_s = window_s

    def expect(self, history: History, at_s: Floats) -> Expectation:
        end_s = history.grid.start_s + history.grid.count * history.grid.step_s
        flow, speed, valid = window_mean(history, np.array([end_s]), self.window_s)
        shape = (len(at_s), flow.shape[1])
        return Expectation(np.broadcast_to(flow, shape), np.broadcast_to(speed, shape), np.broadcast_to(valid, shape))


class HistoricalProfile:
    """The usual value at this time of day and week: robust medians over past days.

    Cells are time of week where three weeks were seen, else weekdays and weekends apart, else time of day alone. An
    empty cell takes the nearest one in time, up to `hold_s` away; beyond that the profile is not valid. Between cell
    centres values are interpolated. Local wall time decides the cell: `utc_offset_s` is added to the epoch.
    """

    name = "profile"

    def __init__(self, past: History, *, utc_offset_s: float = 0.0, hold_s: float = 3600.0) -> None:
        check_shapes("T E", flow=past.flow_vps, speed=past.speed_mps, valid=past.valid)
        self._utc_offset_s = utc_offset_s
        self._bin_s = DAY_S / max(1, round(DAY_S / past.grid.step_s))
        middles_s = midpoints(past) + utc_offset_s
        hold = int(hold_s / self._bin_s)
        flow = with_gaps(past.flow_vps, past.valid)
        speed = with_gaps(past.speed_mps, past.valid)
        self._flow = hold_gaps(fit_cells(middles_s, flow, self._bin_s), hold)
        self._speed = hold_gaps(fit_cells(middles_s, speed, self._bin_s), hold)

    def expect(self, history: History, at_s: Floats) -> Expectation:
        local_s = at_s + self._utc_offset_s
        flow, speed = read_cells(self._flow, local_s, self._bin_s), read_cells(self._speed, local_s, self._bin_s)
        valid = np.isfinite(flow) & np.isfinite(speed)
        return Expectation(np.where(valid, flow, 0.0), np.where(valid, speed, 0.0), valid)


def fit_cells(local_s: Floats, values: Floats, bin_s: float) -> Floats:
    """Medians by time of week (days, bins, E); one day where weekdays cannot be told apart. NaN in `values` (T, E),
    is missing, NaN in the answer a cell never seen.

    Sorted into the finest cells that three weeks fill, each falling back to the coarser ones.
    """
    bins = round(DAY_S / bin_s)
    tables = [
        cell_medians(key, values, cells).reshape(-1, bins, values.shape[1])
        for key, cells in _keys(local_s, bin_s, bins)
    ]
    if len(tables) == 1:
        return tables[0]
    by_day = np.where(np.isfinite(tables[-2]), tables[-2], tables[-1])  # weekday, weekend
    weekly = by_day[[0, 0, 0, 0, 0, 1, 1]]
    return np.where(np.isfinite(tables[0]), tables[0], weekly) if len(tables) == 3 else weekly


def leave_one_out(local_s: Floats, values: Floats, bin_s: float) -> Floats:
    """The profile of each row (T, E) from all rows but itself: what a model may be fitted on without flattery."""
    bins = round(DAY_S / bin_s)
    answer = np.full(values.shape, np.nan)
    for key, cells in _keys(local_s, bin_s, bins):
        order, edges = _grouped(key, cells)
        found = np.full(values.shape, np.nan)
        for begin, end in pairwise(edges):
            if end - begin > 1:
                rows = order[begin:end]
                found[rows] = _medians_of_the_others(values[rows])
        answer = np.where(np.isfinite(answer), answer, found)
    return answer


def cell_medians(key: NDArray[np.int64], values: Floats, cells: int) -> Floats:
    """Median of the finite values of each cell (cells, E), NaN where there is none."""
    order, edges = _grouped(key, cells)
    answer = np.full((cells, values.shape[1]), np.nan)
    for cell in np.flatnonzero(np.diff(edges)):
        block = np.sort(values[order[edges[cell] : edges[cell + 1]]], axis=0)  # NaN last
        known = np.isfinite(block).sum(axis=0)
        low = np.take_along_axis(block, np.maximum(known - 1, 0)[None] // 2, axis=0)[0]
        high = np.take_along_axis(block, known[None] // 2, axis=0)[0]
        answer[cell] = (low + high) / 2
    return answer


def hold_gaps(table: Floats, reach_bins: int) -> Floats:
    """Fill empty cells of (days, bins, E) from the nearest in time around the clock, at most `reach_bins` away."""
    flat = table.reshape(-1, table.shape[2]).copy()
    source = flat.copy()
    for distance in range(1, min(reach_bins, len(flat) - 1) + 1):
        if np.isfinite(flat).all():
            break
        for shift in (distance, -distance):
            flat = np.where(np.isfinite(flat), flat, np.roll(source, shift, axis=0))
    return flat.reshape(table.shape)


def read_cells(table: Floats, local_s: Floats, bin_s: float) -> Floats:
    """Values (K, E) of a (days, bins, E) table, linear between bin centres, circular in time."""
    days, bins, edges = table.shape
    day_shift = _MONDAY_SHIFT_DAYS if days == 7 else 0
    at = (local_s / bin_s) + day_shift * bins - 0.5
    low = np.floor(at).astype(np.int64)
    share = (at - low)[:, None]
    flat = table.reshape(days * bins, edges)
    first, second = flat[low % len(flat)], flat[(low + 1) % len(flat)]
    mixed = first * (1.0 - share) + second * share
    answer: Floats = np.where(np.isfinite(mixed), mixed, np.where(share < 0.5, first, second))
    return answer


def _keys(local_s: Floats, bin_s: float, bins: int) -> list[tuple[NDArray[np.int64], int]]:
    """Cell numbers of each row and how many cells there are, finest first."""
    day = np.floor(local_s / DAY_S).astype(np.int64) + _MONDAY_SHIFT_DAYS
    in_day = np.floor(local_s % DAY_S / bin_s).astype(np.int64) % bins
    keys = [(in_day, bins)]
    weekend = day % 7 >= 5
    if weekend.any() and not weekend.all():
        keys.insert(0, (weekend * bins + in_day, 2 * bins))
        if len(np.unique(day // 7)) >= ROBUST_WEEKS:
            keys.insert(0, (day % 7 * bins + in_day, 7 * bins))
    return keys


def _grouped(key: NDArray[np.int64], cells: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    order = np.argsort(key, kind="stable")
    return order, np.searchsorted(key[order], np.arange(cells + 1))


def _medians_of_the_others(block: Floats) -> Floats:
    """For each row of (n, E) the median of the finite values of the other rows, NaN where there is none."""
    order = np.argsort(block, axis=0, kind="stable")  # NaN last
    ranked = np.take_along_axis(block, order, axis=0)
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(len(block))[:, None], axis=0)
    known = np.isfinite(block).sum(axis=0)[None]
    others = known - np.isfinite(block)
    low, high = np.maximum(others - 1, 0) // 2, np.minimum(others // 2, np.maximum(others - 1, 0))
    low, high = (np.minimum(k + (k >= rank), len(block) - 1) for k in (low, high))
    middle = (np.take_along_axis(ranked, low, axis=0) + np.take_along_axis(ranked, high, axis=0)) / 2
    return np.where(others > 0, middle, np.nan)
