"""Vehicles whose reported places pass a loop, and whether the loop noticed. See `LoopWitnesses`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from networks.batches import CountBatch
from networks.city import Detector
from networks.graph import Floats, Ints, Network
from twin.odd_events import OddEvents

KEPT_S = 12  # seconds of reports remembered
JUDGED_AFTER_S = 4.0  # by then the reports of a passage have come
BEFORE_S, AFTER_S = 0.8, 1.2  # of the passage as reckoned, within which the loop must be covered
GAP_S = 2.5  # between two reports of a vehicle
SLOWEST_MPS = 2.0  # who crawls is thought to pass several times
SURE_LATERAL_M = 1.2  # from the lane's centre; beyond, it may have been the next lane
APART_S = 1.5  # two vehicles do not pass one loop so close together: one vehicle reported twice
BUSY_HALF_LIFE_S = 300.0
MISSED, NOTICED = 0.05, 12.0  # of passages at an honest loop, to begin with
MISSES, PASSAGES, FORGOTTEN = 8.0, 80.0, 0.999  # of all loops, to begin with; and what a passage leaves of them
SUSPECTED = 4.0  # log-likelihood ratio


class LoopWitnesses:
    """A sequential test of every loop (cumulative sum of log-likelihood ratios, Page 1954, Biometrika 41).

    Each vehicle reported on a lane before a loop and next beyond it is a passage. An honest loop is covered then,
    but for misplaced vehicles; their share is estimated over all loops. One that tells of another place, or nothing,
    is covered as often as at any other time.
    """

    def __init__(self, network: Network, detectors: Sequence[Detector]) -> None:
        lanes, count = len(network.lanes.ids), len(detectors)
        self._edge = np.append(network.lanes.edge, -1)
        self._place = {"stop": np.full(lanes + 1, np.nan), "upstream": np.full(lanes + 1, np.nan)}
        self._loop = {role: np.full(lanes + 1, -1, np.int32) for role in self._place}
        for number, detector in enumerate(detectors):
            if detector.role in self._place:
                self._place[detector.role][detector.lane] = detector.position_m
                self._loop[detector.role][detector.lane] = number
        self._covered, self._heard = np.zeros((count, KEPT_S), np.bool_), np.zeros((count, KEPT_S), np.bool_)
        self._often = np.full(count, 0.2)  # share of times at which the loop is covered about then
        self._before: dict[bool, tuple[NDArray[np.int64], Ints, Floats, Floats, Floats]] = {}
        self._due_loop, self._due_s = np.zeros(0, np.int32), np.zeros(0)
        self._passed_s = np.full(count, -np.inf)
        self._misses, self._passages = MISSES, PASSAGES
        self.passages = OddEvents(count, MISSED, NOTICED)

    def see(
        self,
        tracked: bool,
        key: NDArray[np.int64],
        lane: Ints,
        position_m: Floats,
        lateral_m: Floats,
        speed_mps: Floats,
        measured_s: Floats,
    ) -> None:
        """Reports (N,) of one second; `tracked` by roadside units, else of equipped vehicles. lane -1: on none."""
        order = np.argsort(key, kind="stable")
        sure = np.where(lateral_m[order] <= SURE_LATERAL_M, lane[order], np.where(lane[order] < 0, -1, -2))
        now = key[order], sure.astype(np.int32), position_m[order], speed_mps[order], measured_s[order]
        before = self._before.get(tracked)
        self._before[tracked] = now
        if before is None or not len(before[0]) or not len(order):
            return
        at = np.minimum(np.searchsorted(before[0], now[0]), len(before[0]) - 1)
        gap_s = now[4] - before[4][at]
        same = (before[0][at] == now[0]) & (gap_s > 0) & (gap_s <= GAP_S)
        same &= np.minimum(now[3], before[3][at]) >= SLOWEST_MPS
        rows, at = np.flatnonzero(same), at[same]
        self._note(*(column[at] for column in before[1:]), *(column[rows] for column in now[1:]))

    def _note(
        self, from_lane: Ints, from_m: Floats, from_mps: Floats, from_s: Floats, lane: Ints, m: Floats, mps: Floats,
        at_s: Floats,
    ) -> None:  # fmt: skip
        stayed = (from_lane == lane) & (lane >= 0)
        left = (from_lane >= 0) & (lane != -2) & (self._edge[from_lane] != self._edge[lane])
        came = (lane >= 0) & (from_lane != -2) & (self._edge[from_lane] != self._edge[lane])
        for role, place in self._place.items():
            loop, mark = self._loop[role], place[lane]
            over = stayed & (from_m < mark) & (m >= mark)
            share = np.where(over, (mark - from_m) / np.maximum(m - from_m, 0.1), 0.0)
            self._expect(loop[lane[over]], (from_s + share * (at_s - from_s))[over])
            over = came & (m >= mark) & ((m - mark) / np.maximum(mps, 1.0) <= at_s - from_s)
            self._expect(loop[lane[over]], (at_s - (m - mark) / np.maximum(mps, 1.0))[over])
            mark = place[from_lane]
            over = left & (from_m < mark) & ((mark - from_m) / np.maximum(from_mps, 1.0) <= at_s - from_s)
            self._expect(loop[from_lane[over]], (from_s + (mark - from_m) / np.maximum(from_mps, 1.0))[over])

    def _expect(self, loop: Ints, at_s: Floats) -> None:
        fresh = np.abs(at_s - self._passed_s[loop]) > APART_S
        loop, at_s = loop[fresh], at_s[fresh]
        self._passed_s[loop] = at_s
        self._due_loop, self._due_s = np.append(self._due_loop, loop), np.append(self._due_s, at_s)

    def step(self, second: int, batch: CountBatch, rows: Ints) -> None:
        """Take the loop reports `rows` of a second, and judge the passages of some seconds ago."""
        slot = second % KEPT_S
        self._covered[:, slot] = self._heard[:, slot] = False
        own = np.ceil(batch.measured_at_s[rows] - 1e-6).astype(np.int64)
        use = (batch.interval_s[rows] <= 1.0 + 1e-6) & (own > second - KEPT_S) & (own <= second)
        loop, own = batch.detector[rows][use], own[use]
        self._heard[loop, own % KEPT_S] = True
        told = (batch.occupancy[rows][use] > 0.0) | (batch.count[rows][use] > 0)
        self._covered[loop[told], own[told] % KEPT_S] = True
        lately = self._covered[:, np.arange(second - 2, second + 1) % KEPT_S].any(axis=1)
        keep = 0.5 ** (1.0 / BUSY_HALF_LIFE_S)
        self._often = np.where(self._heard[:, slot], keep * self._often + (1.0 - keep) * lately, self._often)
        ripe = self._due_s <= second - JUDGED_AFTER_S
        self._judge(self._due_loop[ripe], self._due_s[ripe], second)
        self._due_loop, self._due_s = self._due_loop[~ripe], self._due_s[~ripe]

    def _judge(self, loop: Ints, at_s: Floats, second: int) -> None:
        first, last = np.ceil(at_s - BEFORE_S).astype(np.int64), np.ceil(at_s + AFTER_S).astype(np.int64)
        use = (first > second - KEPT_S) & (last <= second)
        loop, first, last = loop[use], first[use], last[use]
        noticed, heard = np.zeros(len(loop), np.bool_), np.ones(len(loop), np.bool_)
        for k in range(int(BEFORE_S + AFTER_S) + 2):
            slot = np.minimum(first + k, last) % KEPT_S
            noticed |= self._covered[loop, slot]
            heard &= self._heard[loop, slot]
        loop, noticed = loop[heard], noticed[heard]
        believed = self.passages.odds[loop] < SUSPECTED  # those that lie say nothing of how well vehicles are placed
        for hit in noticed[believed].tolist():
            self._misses = FORGOTTEN * self._misses + (not hit)
            self._passages = FORGOTTEN * self._passages + 1.0
        missing = self._misses / self._passages
        while len(loop):
            _, first_of = np.unique(loop, return_index=True)
            d = loop[first_of]
            self.passages.note(d, ~noticed[first_of], 1.0 - self._often[d], at_least_frac=missing)
            loop, noticed = np.delete(loop, first_of), np.delete(noticed, first_of)

    def forget(self) -> None:
        """A pause: nobody was followed over it."""
        self._before.clear()
        self._due_loop, self._due_s = np.zeros(0, np.int32), np.zeros(0)
        self._covered[:] = self._heard[:] = False
