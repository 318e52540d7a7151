"""What the loops said lately: per-second rings, rates, silence and faults. See `LoopRecord`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from networks.batches import CountBatch
from networks.city import Detector
from networks.graph import Bools, Floats, Ints

WINDOW_S = 300
LIVE_S = 3.0  # a loop drives the vehicle lists only while its reports are so fresh
SILENT_S = 30.0
STUCK_S = 100.0  # covered without a count for so long ...
STUCK_GREEN_S = 35.0  # ... of which so many seconds of green
JAM_SPACING_M = 6.5
SHORT_INTERVAL_S = 2.0  # longer intervals give flows but no vehicle events


class LoopRecord:
    """Counts, occupancy and speed of every detector (D,) for the last `WINDOW_S` seconds, and its health."""

    def __init__(self, detectors: Sequence[Detector], start_s: float) -> None:
        count = len(detectors)
        self.ids = tuple(d.id for d in detectors)
        self.start_s = start_s
        self._counts = np.zeros((count, WINDOW_S))
        self._heard = np.zeros((count, WINDOW_S), np.bool_)
        self._total = np.zeros(count)  # over the window
        self._heard_s = np.zeros(count)
        self.last_s = np.full(count, -np.inf)  # end of the newest interval
        self.quick = np.zeros(count, np.bool_)  # reports second by second
        self.count = np.zeros(count, np.int32)  # in the second being worked on
        self.share = np.full(count, -1.0)  # occupancy, -1 not reported
        self.speed_mps = np.full(count, np.nan)
        self.idle_s = np.zeros(count)
        self.busy_s = np.zeros(count)
        self._dry_s = np.zeros(count)  # covered all the time, no count
        self._dry_green_s = np.zeros(count)
        self._passed_elsewhere = np.zeros(count)
        self._between = np.full(count, np.inf)  # vehicles that fit between an upstream loop and its stop line
        stop = {d.lane: d.position_m for d in detectors if d.role == "stop"}
        for i, d in enumerate(detectors):
            if d.role == "upstream" and d.lane in stop:
                self._between[i] = (stop[d.lane] - d.position_m) / JAM_SPACING_M
        self._ends_queue = np.array([d.role == "stop" for d in detectors], dtype=np.bool_)

    def forget(self, seconds: int, now_second: int) -> None:
        """Nothing was heard for so many seconds up to now_second."""
        gone = np.arange(now_second - min(seconds, WINDOW_S) + 1, now_second + 1) % WINDOW_S
        self._counts[:, gone] = 0.0
        self._heard[:, gone] = False
        self._total, self._heard_s = self._counts.sum(axis=1), self._heard.sum(axis=1).astype(np.float64)

    def discard(self, loops: Bools) -> None:
        """Take back all that these loops (D,) have told."""
        for history in (self._counts, self._heard):
            history[loops] = 0
        for told in (self._total, self._heard_s, self.busy_s, self._dry_s, self._dry_green_s):
            told[loops] = 0.0
        self.last_s[loops] = -np.inf

    def step(self, second: int, batch: CountBatch, rows: Ints, green: Floats) -> None:
        """Take the reports `rows` of the batch as those of this second.

        green (D,): how surely the loop's lane may discharge and has room beyond, 0 to 1.
        """
        slot = second % WINDOW_S
        self._total -= self._counts[:, slot]
        self._heard_s -= self._heard[:, slot]
        self._counts[:, slot] = 0.0
        self._heard[:, slot] = False
        self.count[:] = 0
        self.share[:] = -1.0
        self.speed_mps[:] = np.nan
        if len(rows):
            d, n, span = batch.detector[rows], batch.count[rows], batch.interval_s[rows]
            quick = span <= SHORT_INTERVAL_S
            own = np.ceil(batch.measured_at_s[rows] - 1e-6).astype(np.int64)
            late = quick & (own < second) & (own > second - WINDOW_S)
            self.quick[d] = quick
            np.add.at(self.count, d[quick], n[quick])
            self.share[d[quick]] = batch.occupancy[rows][quick]
            moving = quick & (n > 0)
            self.speed_mps[d[moving]] = batch.speed_mps[rows][moving]
            np.maximum.at(self.last_s, d, batch.measured_at_s[rows])
            np.add.at(self._counts[:, slot], d[quick], n[quick])
            self._heard[d[quick & ~late], slot] = True
            self._total += self.count
            self._heard_s += self._heard[:, slot]
            for k in np.flatnonzero(late):  # its count stands with this second, but it was heard of its own
                self._heard_s[d[k]] += not self._heard[d[k], own[k] % WINDOW_S]
                self._heard[d[k], own[k] % WINDOW_S] = True
            for k in np.flatnonzero(~quick):
                width = min(round(float(span[k])), WINDOW_S)
                slots = np.arange(second - width + 1, second + 1) % WINDOW_S
                self._total[d[k]] += n[k] / span[k] * width - self._counts[d[k], slots].sum()
                self._heard_s[d[k]] += width - self._heard[d[k], slots].sum()
                self._counts[d[k], slots] = n[k] / span[k]
                self._heard[d[k], slots] = True
        told = self.share >= 0
        on = self.share > 0
        self.idle_s = np.where(on, 0.0, self.idle_s + 1.0)
        self.busy_s = np.where(told, np.where(self.share >= 0.99, self.busy_s + 1.0, 0.0), self.busy_s)
        dry = told & (self.share >= 0.99) & (self.count == 0)
        self._dry_s = np.where(dry, self._dry_s + 1.0, np.where(told, 0.0, self._dry_s))
        self._dry_green_s = np.where(dry, self._dry_green_s + green, np.where(told, 0.0, self._dry_green_s))

    def note_passed(self, passed: Floats) -> None:
        """passed (D,): vehicles that other evidence saw pass where this loop should have counted them."""
        self._passed_elsewhere = np.where(self._dry_s > 0, self._passed_elsewhere + passed, 0.0)

    @property
    def stuck(self) -> Bools:
        """Covered without one count: at a stop line for more than a cycle's worth of green with room beyond; upstream
        while more vehicles left the lane than can have stood ahead of the loop.
        """
        waited: Bools = self._ends_queue & (self._dry_s >= STUCK_S) & (self._dry_green_s >= STUCK_GREEN_S)
        contradicted: Bools = (self._dry_s >= 20.0) & (self._passed_elsewhere >= self._between + 3.0)
        return waited | contradicted

    def live(self, now_s: float) -> Bools:
        return self.quick & (now_s - self.last_s <= LIVE_S) & ~self.stuck

    def rates(self) -> tuple[Floats, Floats]:
        """Vehicles a second over the heard part of the window, and the seconds heard (D,)."""
        return np.maximum(self._total, 0.0) / np.maximum(self._heard_s, 1.0), self._heard_s

    def faults(self, now_s: float, known: Bools) -> list[str]:
        """Loops not trusted now, with the reason; those of `known` (D,) are named elsewhere."""
        found = []
        stuck = self.stuck
        silent = now_s - np.maximum(self.last_s, self.start_s) > SILENT_S
        for d in np.flatnonzero((silent | stuck) & ~known):
            reason = "covered without counts" if stuck[d] else "silent"
            found.append(f"loop {self.ids[d]}: {reason}")
        return found
