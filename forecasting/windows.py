"""The twin's own memory of edge states on a time grid, cut by what was known at the time."""

from __future__ import annotations

import math

import numpy as np

from networks.graph import Bools, Floats
from networks.state import Estimate, History, NetworkState, TimeGrid, check_shapes

_STANDING_MPS = 0.1


class HistoryBuffer:
    """Rolling edge history: states go in, a `History` of whole steps comes out.

    A state at `now_s` speaks of the time up to then, so one that falls on the border of two steps belongs to the
    earlier. Several states in a step are averaged, unless each speaks of more than a step: then the newest counts.
    Values whose newest evidence is older than `max_age_s` are expectations of the fusion and not readings: they stay
    out, so that no forecast is ever scored against a guess.
    """

    def __init__(self, edges: int, *, step_s: float = 60.0, keep_s: float = 7200.0, max_age_s: float = 180.0) -> None:
        self.step_s = step_s
        self._max_age_s = max_age_s
        self._slots = math.ceil(keep_s / step_s) + 1  # one more: the step that is being filled
        self._step = np.full(self._slots, -1, np.int64)  # number of the step in each slot, -1: none
        self._sums = np.zeros((2, self._slots, edges))  # flow, speed
        self._counts = np.zeros((2, self._slots, edges))
        self._newest_s = -math.inf
        self._window_s = 0.0  # of the newest state

    def append(self, state: NetworkState) -> None:
        """Add one fused state. A clock set back (a restart, a replay) forgets everything from that moment on.

        Raises ShapeError when the state is of another network.
        """
        check_shapes(
            "E",
            flow=state.edge_flow_vps.value,
            speed=state.edge_speed_mps.value,
            buffer=self._sums[0, 0],
        )
        step = math.ceil(state.now_s / self.step_s) - 1
        if state.now_s <= self._newest_s:
            self._step[self._step >= step] = -1
        self._newest_s, self._window_s = state.now_s, state.edge_window_s
        slot = step % self._slots
        if self._step[slot] != step:
            self._step[slot] = step
            self._sums[:, slot] = 0.0
            self._counts[:, slot] = 0.0
        for quantity, estimate in enumerate((state.edge_flow_vps, state.edge_speed_mps)):
            known = self._readings(estimate)
            if state.edge_window_s > self.step_s:
                self._sums[quantity, slot, known] = self._counts[quantity, slot, known] = 0.0
            self._sums[quantity, slot, known] += estimate.value[known]
            self._counts[quantity, slot, known] += 1.0

    def until(self, now_s: float) -> History:
        """The whole steps that ended by `now_s`, oldest first; steps in which nothing came are not valid."""
        last = math.floor(now_s / self.step_s) - 1
        held = np.flatnonzero((self._step >= 0) & (self._step <= last) & (self._step > last - self._slots))
        edges = self._sums.shape[2]
        if not len(held):
            empty = np.zeros((0, edges))
            return History(TimeGrid((last + 1) * self.step_s, self.step_s, 0), empty, empty, empty.astype(np.bool_))
        first = int(self._step[held].min())
        count = last - first + 1
        means = np.zeros((2, count, edges))
        counts = np.zeros((2, count, edges))
        rows = self._step[held] - first
        counts[:, rows] = self._counts[:, held]
        means[:, rows] = self._sums[:, held] / np.maximum(self._counts[:, held], 1.0)
        grid = TimeGrid(first * self.step_s, self.step_s, count)
        return History(grid, means[0], means[1], counts.min(axis=0) > 0, self._window_s)

    def _readings(self, estimate: Estimate) -> Bools:
        return estimate.valid & np.isfinite(estimate.value) & (estimate.age_s <= self._max_age_s)


def midpoints(history: History) -> Floats:
    """Middle of each step (T,), epoch seconds."""
    steps = np.arange(history.grid.count, dtype=np.float64)
    return history.grid.start_s + (steps + 0.5) * history.grid.step_s


def with_gaps(values: Floats, valid: Bools) -> Floats:
    """A copy with NaN where not valid."""
    answer = values.copy()
    answer[~valid] = np.nan
    return answer


def window_mean(
    history: History, end_s: Floats, width_s: float, *, least_frac: float = 0.0
) -> tuple[Floats, Floats, Bools]:
    """Mean flow and speed of the readings in (end - width, end] for each end: two (K, E) and their validity (K, E).

    Valid where at least one step, and `least_frac` of the steps, hold a reading. Values that are means over several
    steps themselves are taken from steps as far apart as that, the last one first: else the mean would reach further
    back than asked. Speed is the space mean, metres driven over seconds spent, so that a slow vehicle counts for as
    long as it took; where no vehicle passed, every step counts alike.
    """
    check_shapes("T E", flow=history.flow_vps, speed=history.speed_mps, valid=history.valid)
    grid = history.grid
    steps = max(1, round(width_s / grid.step_s))
    apart = max(1, round(history.window_s / grid.step_s))
    stops = np.floor((end_s - grid.start_s) / grid.step_s + 1e-6).astype(np.int64)
    edges = history.flow_vps.shape[1]
    flow, speed, valid = np.zeros((len(end_s), edges)), np.zeros((len(end_s), edges)), np.zeros((len(end_s), edges))
    for row, stop in enumerate(stops):
        part = slice(max(0, int(stop) - steps), max(0, min(int(stop), grid.count)))
        valid[row] = history.valid[part].sum(axis=0)
        known = _apart(history.valid[part], int(stop) - part.start, apart)
        flow_vps, speed_mps = (np.where(known, v[part], 0.0) for v in (history.flow_vps, history.speed_mps))
        weight = known * (flow_vps + 1e-3)  # 3.6 veh/h: an empty road still has a speed
        flow[row] = flow_vps.sum(axis=0) / np.maximum(known.sum(axis=0), 1)
        spent = weight / np.maximum(speed_mps, _STANDING_MPS)
        speed[row] = weight.sum(axis=0) / np.maximum(spent.sum(axis=0), 1e-9)
    return flow, speed, valid >= max(1.0, least_frac * steps)


def _apart(known: Bools, stop: int, apart: int) -> Bools:
    """Of the known steps (T, E) before `stop` those that lie multiples of `apart` before the last; where none of them
    is known, the newest that is."""
    age = stop - 1 - np.arange(len(known))[:, None]
    chosen = known & (age % apart == 0)
    newest = known & (np.cumsum(known[::-1], axis=0)[::-1] == 1)
    answer: Bools = np.where(chosen.any(axis=0), chosen, newest)
    return answer
