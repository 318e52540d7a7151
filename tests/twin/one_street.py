"""A straight street of parallel lanes with one signal, traffic on it by Newell's rule, and batches from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from networks.batches import Batches, CountBatch, ProbeBatch, SignalStateBatch, TrackBatch, WeatherBatch
from networks.city import Detector
from networks.graph import (
    PASSENGER,
    STRAIGHT,
    EdgeTable,
    Floats,
    LaneTable,
    MovementTable,
    Network,
    Programme,
    ProgrammePhase,
    Ragged,
    Signal,
    Stage,
)

T0_S = 1_772_406_000.0
LENGTH_M = 300.0
PATH_M = 20.0
LANE_M = 3.2
FREE_MPS = 13.0
SPACING_M = 7.0
CAR_M = 5.0
REACTION_S = 1.0
TICK_S = 0.1


def street(lane_count: int = 1) -> Network:
    """Edge "in" (300 m) -> signal J at x = 300 -> edge "out" (300 m); lane i lies at y = 3.2 i."""
    ids = tuple(f"{e}_{i}" for e in ("in", "out") for i in range(lane_count))
    count = 2 * lane_count
    begin_m = (0.0, LENGTH_M + PATH_M)
    shapes = [
        [begin_m[e], LANE_M * i, begin_m[e] + LENGTH_M, LANE_M * i] for e in range(2) for i in range(lane_count)
    ]
    edges = EdgeTable(
        ids=("in", "out"),
        length_m=np.full(2, LENGTH_M),
        speed_limit_mps=np.full(2, 13.9),
        lane_count=np.full(2, lane_count, np.int32),
        first_lane=np.array([0, lane_count, count], np.int32),
        from_node=np.array([0, 1], np.int32),
        to_node=np.array([1, 2], np.int32),
        priority=np.ones(2, np.int32),
        names=("", ""),
        shape_xy=Ragged(np.array([0, 4, 8], np.int32), np.ravel([shapes[0], shapes[lane_count]])),
    )
    lanes = LaneTable(
        ids=ids,
        edge=np.repeat(np.arange(2, dtype=np.int32), lane_count),
        index=np.tile(np.arange(lane_count, dtype=np.int32), 2),
        length_m=np.full(count, LENGTH_M),
        width_m=np.full(count, LANE_M),
        speed_limit_mps=np.full(count, 13.9),
        allowed=np.full(count, PASSENGER, np.int32),
        shape_xy=Ragged(np.arange(0, 4 * count + 1, 4, dtype=np.int32), np.ravel(shapes)),
    )
    own = np.arange(lane_count, dtype=np.int32)
    movements = MovementTable(
        from_lane=own,
        to_lane=own + lane_count,
        turn=np.full(lane_count, STRAIGHT, np.int32),
        length_m=np.full(lane_count, PATH_M),
        speed_mps=np.full(lane_count, 13.9),
        signal=np.zeros(lane_count, np.int32),
        link=own,
        node=np.ones(lane_count, np.int32),
        yields=np.zeros(lane_count, np.bool_),
        internal_lanes=((":J_0",),) * lane_count,
    )
    none = np.zeros((lane_count, lane_count), np.bool_)
    green, red = "G" * lane_count, "r" * lane_count
    signal = Signal(
        id="J",
        nodes=(1,),
        link_count=lane_count,
        link_movements=tuple((i,) for i in range(lane_count)),
        crossings=(),
        programmes=(Programme("0", "static", 0.0, tuple(ProgrammePhase(s, 30.0, 30.0, 30.0) for s in (green, red))),),
        stages=(Stage(green, 30.0),),
        foes=none,
        conflicts=none,
        intergreen_s=np.zeros((lane_count, lane_count)),
        yellow_s=3.0,
        all_red_s=0.0,
        min_green_s=np.full(lane_count, 5.0),
        max_red_s=180.0,
        pedestrian=np.zeros(lane_count, np.bool_),
        pedestrian_clearance_s=np.zeros(lane_count),
    )
    return Network(
        name="street",
        projection=None,
        net_offset_m=(0.0, 0.0),
        bounds_m=(0.0, 0.0, 620.0, 20.0),
        nodes=("W", "J", "E"),
        node_xy=np.array([[0.0, 0.0], [LENGTH_M, 0.0], [620.0, 0.0]]),
        edges=edges,
        lanes=lanes,
        movements=movements,
        signals=(signal,),
        fingerprint="street",
    )


def detectors(lane_count: int = 1) -> tuple[Detector, ...]:
    """Stop-line loop (2 m before) and upstream loop (100 m before) on each lane of "in"; even rows are the former."""
    return tuple(
        Detector(f"in_{i}_{role}", i, position_m, role)
        for i in range(lane_count)
        for role, position_m in (("stop", LENGTH_M - 2.0), ("upstream", LENGTH_M - 100.0))
    )


@dataclass
class Traffic:
    """One lane driven by Newell's simplified car following; the stop line is closed while `green` says so."""

    departures_s: Sequence[float]
    green: Callable[[float], bool]
    now_s: float = 0.0
    trails: list[list[float]] = field(default_factory=list)  # per vehicle, position at every tick since it came

    def second(self) -> tuple[Floats, Floats]:
        """Drive one second: counts and occupancy of the stop-line and the upstream loop."""
        loops = np.array([LENGTH_M - 2.0, LENGTH_M - 100.0])
        count, covered = np.zeros(2), np.zeros(2)
        for _ in range(round(1.0 / TICK_S)):
            self.now_s += TICK_S
            before = [trail[-1] for trail in self.trails]
            self._tick()
            for trail, old in zip(self.trails, before, strict=False):
                count += (old - CAR_M <= loops) & (trail[-1] - CAR_M > loops)
            here = np.array([trail[-1] for trail in self.trails])
            if len(here):
                covered += ((here[:, None] > loops) & (here[:, None] - CAR_M <= loops)).any(axis=0) * TICK_S
        return count, np.minimum(covered, 1.0)

    def _tick(self) -> None:
        while len(self.trails) < len(self.departures_s) and self.departures_s[len(self.trails)] <= self.now_s:
            self.trails.append([0.0])
        lag = round(REACTION_S / TICK_S)
        for i, trail in enumerate(self.trails):
            limit = np.inf
            if i > 0:
                ahead = self.trails[i - 1]
                limit = ahead[max(len(ahead) - 1 - lag, 0)] - SPACING_M
            if trail[-1] <= LENGTH_M - 0.5 and not self.green(self.now_s):
                limit = min(limit, LENGTH_M - 0.5)
            trail.append(max(trail[-1], min(trail[-1] + FREE_MPS * TICK_S, limit)))

    def positions(self) -> Floats:
        """Of the vehicles on the lane."""
        here = np.array([trail[-1] for trail in self.trails])
        return here[here <= LENGTH_M] if len(here) else here

    def standing(self) -> int:
        """Vehicles on the lane below 2 m/s."""
        back = round(1.0 / TICK_S)
        return sum(
            trail[-1] <= LENGTH_M and len(trail) > back and trail[-1] - trail[-1 - back] < 2.0
            for trail in self.trails
        )


Row = tuple[float, ...]


def batches(
    counts: Sequence[Row] = (),
    tracks: Sequence[Row] = (),
    probes: Sequence[Row] = (),
    lamps: Sequence[tuple[float, str]] = (),
) -> Batches:
    """Rows to batches; times are seconds after T0_S and available at once.

    counts (detector, count, occupancy, speed, second); tracks (object, x, y, speed, second); probes likewise.
    """
    c = np.array(counts, dtype=np.float64).reshape(-1, 5)
    t = np.array(tracks, dtype=np.float64).reshape(-1, 5)
    p = np.array(probes, dtype=np.float64).reshape(-1, 5)
    at = [T0_S + c[:, 4], T0_S + t[:, 4], T0_S + p[:, 4], T0_S + np.array([s for s, _ in lamps])]
    return Batches(
        CountBatch(
            c[:, 0].astype(np.int32), c[:, 1].astype(np.int32), c[:, 2], c[:, 3], np.ones(len(c)), at[0], at[0]
        ),
        TrackBatch(
            np.zeros(len(t), np.int32),
            t[:, 0].astype(np.int64),
            t[:, 1],
            t[:, 2],
            t[:, 3],
            np.zeros(len(t)),
            np.zeros(len(t), np.int32),
            at[1],
            at[1],
        ),
        ProbeBatch(
            p[:, 0].astype(np.int64),
            p[:, 1],
            p[:, 2],
            p[:, 3],
            np.zeros(len(p)),
            np.zeros(len(p), np.int32),
            np.full(len(p), -1, np.int32),
            at[2],
            at[2],
        ),
        SignalStateBatch(
            np.zeros(len(lamps), np.int32),
            tuple(s for _, s in lamps),
            np.full(len(lamps), -1, np.int64),
            at[3],
            at[3],
        ),
        (),
        WeatherBatch(*(np.zeros(0) for _ in range(8))),
        (),
    )
