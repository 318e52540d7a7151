"""On which lane at the stop line vehicles end up that came over the upstream loops of an edge. See `Settling`."""

from __future__ import annotations

import numpy as np

from networks.graph import Floats
from networks.pieces import StreetPieces
from twin.fusion_kernels import Lanes, Streets
from twin.turning_shares import HITS_HALF_LIFE_S

SPAN_S = 400.0  # counts of a longer time without a clear edge are not used
PARTING_VEHICLES = 20.0  # that the prior shares weigh of who goes where when a lane parts before the stop line


class Settling:
    """Counts between two moments when an edge is empty between its loops tell where its vehicles end up.

    Counts over any other span would take a lane whose queue grows for one that vehicles leave.
    """

    def __init__(self, streets: Streets, pieces: StreetPieces, share: Floats) -> None:
        """share (M,): turning shares to begin with."""
        count = len(streets.first)
        own = np.arange(count, dtype=np.int32)
        self._streets = streets
        self._seen_by = np.where(streets.up_m >= 0, own, pieces.beside)  # lane with the upstream loop of each
        self._passed_up, self._passed_stop = self._settled_before(pieces, share)  # forgotten slowly
        self._since_up, self._since_stop, self._since_s = (np.zeros(count) for _ in range(3))

    def _settled_before(self, pieces: StreetPieces, share: Floats) -> tuple[Floats, Floats]:
        """What is thought to have passed upstream loops and stop lines before anything was counted (L,).

        Nothing, but where a lane parts on its way to the stop line its turning shares tell where its vehicles go.
        """
        streets = self._streets
        motor, own = np.diff(streets.offset) > 0, np.arange(len(streets.first))
        parting = np.bincount(streets.first, motor & (streets.beside != own), len(motor))[streets.first] > 0
        share = np.where(pieces.into >= 0, share[pieces.into], 1.0)
        total = np.bincount(streets.beside, np.where(motor, share, 0.0), len(motor))[streets.beside]
        stop = np.where(motor & parting, PARTING_VEHICLES * share / np.maximum(total, 1e-9), 0.0)
        up = np.bincount(np.where(motor, self._seen_by, own), stop, len(motor))
        return np.maximum(up, 1e-9), np.maximum(stop, 1e-9)

    def step(self, lanes: Lanes) -> None:
        """One second's counts."""
        first = self._streets.first
        self._since_up += lanes.up_count
        self._since_stop += lanes.stop_count
        self._since_s += 1.0
        up_idle_s = lanes.up_idle_s[self._seen_by]
        quiet = (lanes.stop_idle_s >= 3.0) & (up_idle_s >= 5.0) & (lanes.listed <= 1)
        busy_lanes = np.bincount(first, ~quiet, len(first))[first]
        clear = busy_lanes == 0
        balanced = np.abs(self._edge_total(self._since_up) - self._edge_total(self._since_stop)) <= 2.0
        learn = clear & balanced
        self._passed_up[learn] += self._since_up[learn]
        self._passed_stop[learn] += self._since_stop[learn]
        done = clear | (self._since_s > SPAN_S)
        for counts in (self._since_up, self._since_stop, self._since_s):
            counts[done] = 0.0

    def learn(self, lanes: Lanes, seconds: float) -> None:
        """Bring `lanes.up_cum` and `lanes.stop_cum` up to date; what passed before the last `seconds` fades."""
        for passed, cum in ((self._passed_up, lanes.up_cum), (self._passed_stop, lanes.stop_cum)):
            passed *= 0.5 ** (seconds / HITS_HALF_LIFE_S)
            cum[:] = self._parts(passed)
        first = self._streets.first
        known = self._edge_total(self._passed_up) >= 20
        complete = np.ones(len(first), np.bool_)
        motor = np.diff(self._streets.offset) > 0
        lacking = motor & ((self._streets.up_m[self._seen_by] < 0) | (self._streets.stop_m < 0))
        np.logical_and.at(complete, first, ~lacking)
        identity = ~(known & complete[first])
        lanes.stop_cum[identity] = lanes.up_cum[identity]

    def _edge_total(self, passed: Floats) -> Floats:
        total: Floats = np.bincount(self._streets.first, passed, len(passed)).astype(np.float64)
        return total[self._streets.first]

    def _parts(self, passed: Floats) -> Floats:
        """Upper end of each lane's part of its edge's total, the lanes taken in order."""
        running = np.concatenate([[0.0], np.cumsum(passed)])
        first = self._streets.first
        parts: Floats = (running[1:] - running[first]) / np.maximum(self._edge_total(passed), 1e-12)
        parts[np.arange(len(passed)) + 1 == self._streets.last] = 1.0
        return parts
