"""Where the mirror's lanes hold too many or too few vehicles, and what may be done about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from networks.graph import VEHICLE_SPACE_M, Floats, Network

QUEUED_MPS = 2.0
MEMORY_CYCLES = 3.0  # a difference must last: one cycle's may be a vehicle on its way over the stop line
DEAD_BAND_VEH = 0.5  # besides one standard deviation
PER_EDGE, PER_STEP = 1, 40  # vehicles put in or taken out at once
QUEUE_MARGIN_VEH = 1.0  # a queue that the street reports is never cut shorter than this above it


class LaneTraffic(NamedTuple):
    """The mirror's vehicles, sorted by lane and then from the lane's start."""

    ids: tuple[str, ...]
    first: np.ndarray[tuple[int], np.dtype[np.int64]]  # (L+1,) vehicles of lane l are first[l]..first[l+1]
    speed_mps: Floats
    vehicles: Floats  # (L,)
    queue: Floats  # (L,) slower than 2 m/s

    def on(self, lane: int) -> range:
        """Rows of the vehicles of a lane."""
        return range(int(self.first[lane]), int(self.first[lane + 1]))


def lane_traffic(ids: Sequence[str], lane: Sequence[int], speed_mps: Sequence[float], lanes: int) -> LaneTraffic:
    """Build `LaneTraffic` from one row a vehicle, already sorted by lane and from the lane's start."""
    on, speed = np.array(lane, np.int64), np.array(speed_mps, np.float64)
    count = np.bincount(on, minlength=lanes)
    return LaneTraffic(
        tuple(ids),
        np.concatenate([[0], np.cumsum(count)]).astype(np.int64),
        speed,
        count.astype(np.float64),
        np.bincount(on[speed < QUEUED_MPS], minlength=lanes).astype(np.float64),
    )


class LaneCorrection:
    """Remembers how far each edge is off and says what to do this step.

    Counts are compared per edge: in which lane of an approach a vehicle stands is the lane-changing model's business,
    that it is there at all is not.
    """

    def __init__(self, network: Network) -> None:
        self._edge = network.lanes.edge
        self._edges = len(network.edges.ids)
        self._missing = np.zeros(self._edges)  # vehicles, smoothed

    def wanted(self, fused: Floats, deviation: Floats, traffic: LaneTraffic) -> Floats:
        """Vehicles to put on (+) or take off (-) each edge (E,), whole and bounded. NaN in `fused` (L,): unknown."""
        known = np.isfinite(fused) & np.isfinite(deviation)
        gap = np.bincount(self._edge[known], (fused - traffic.vehicles)[known], minlength=self._edges)
        band = np.sqrt(np.bincount(self._edge[known], deviation[known] ** 2, minlength=self._edges)) + DEAD_BAND_VEH
        seen = np.bincount(self._edge[known], minlength=self._edges) > 0
        self._missing = np.where(seen, self._missing + (gap - self._missing) / MEMORY_CYCLES, 0.0)
        sure = np.sign(self._missing) == np.sign(gap)
        excess = np.where(sure, np.minimum(np.abs(self._missing), np.abs(gap)) - band, 0.0)
        number = np.clip(np.floor(excess + 0.5), 0, PER_EDGE)
        worst = np.argsort(-excess, kind="stable")
        number[worst[np.cumsum(number[worst]) > PER_STEP]] = 0
        return number * np.sign(gap)

    def done(self, edge: int, vehicles: int) -> None:
        """`vehicles` were put on (+) or taken off (-): do not ask for them again."""
        self._missing[edge] -= vehicles


def rearmost_surplus(traffic: LaneTraffic, lane: int, removable: Callable[[str], bool], reported_queue: float) -> int:
    """Row of the vehicle to take off this lane, or -1.

    The rearmost one that is `removable`. A standing vehicle only while the mirror's queue is longer than the reported
    one by a margin, a moving one only while the lane keeps as many vehicles as the street says are queued: real
    queues stay.
    """
    queue = 0.0 if np.isnan(reported_queue) else reported_queue
    if traffic.vehicles[lane] - 1 < queue:
        return -1
    for row in traffic.on(lane):
        standing = traffic.speed_mps[row] < QUEUED_MPS
        if (not standing or traffic.queue[lane] - 1 >= queue + QUEUE_MARGIN_VEH) and removable(traffic.ids[row]):
            return row
    return -1


def free_place(fronts: Floats, speeds: Floats, length_m: float, limit_mps: float, *, queued: bool) -> float:
    """Front-bumper position for one more vehicle on a lane, NaN when there is no room.

    fronts, speeds (V,): of the vehicles there, from the lane's start. `queued`: the street has a longer queue, so
    join the end of the mirror's; otherwise the middle of the widest gap.
    """
    if queued:
        standing = fronts[speeds < QUEUED_MPS]
        place = (standing[0] if len(standing) else length_m + VEHICLE_SPACE_M - 2.0) - VEHICLE_SPACE_M
        clear = np.abs(fronts - place) >= VEHICLE_SPACE_M - 1e-6
        return float(place) if place >= VEHICLE_SPACE_M and clear.all() else float("nan")
    ends = np.concatenate([[0.0], fronts, [length_m + VEHICLE_SPACE_M]])  # a vehicle's rear ends the gap behind it
    gaps = np.diff(ends) - VEHICLE_SPACE_M
    widest = int(np.argmax(gaps))
    if gaps[widest] < VEHICLE_SPACE_M + limit_mps:  # one second's way behind and a body ahead
        return float("nan")
    return float(min(length_m - 1.0, ends[widest] + (gaps[widest] + VEHICLE_SPACE_M) / 2))
