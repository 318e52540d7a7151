"""Measured points -> lane and position on it. See `LaneFinder`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from networks.graph import Floats, Ints, Network
from twin.placing_kernels import place_points

CELL_M = 30.0
REACH_M = 4.0  # half a lane plus three sigma of a vehicle's own position report


class Placement(NamedTuple):
    """Where points (N,) lie. `lane` -1: on no lane (inside a junction, off the road, headed across)."""

    lane: Ints
    position_m: Floats  # front, from the lane's start
    lateral_m: Floats  # distance from the lane's centre, inf where none
    prior_position_m: Floats  # the same on the lane believed so far
    prior_lateral_m: Floats


class LaneFinder:
    """Finds the lane of a point among the lanes that motor vehicles use."""

    def __init__(
        self, network: Network, reach_m: float = REACH_M, bridges: Sequence[tuple[int, int, float]] = ()
    ) -> None:
        """`reach_m`: how far from a lane's centre a point may lie.

        `bridges`: gaps between two lanes and their lengths in metres; they count as the second, below its begin.
        """
        self._reach_m = reach_m
        lanes = network.lanes
        motor = lanes.motor
        rows: list[tuple[float, ...]] = []
        owner: list[int] = []
        for lane in np.flatnonzero(motor):
            points = np.asarray(lanes.shape_xy[int(lane)], dtype=np.float64).reshape(-1, 2)
            steps = np.diff(points, axis=0)
            lengths = np.hypot(steps[:, 0], steps[:, 1])
            scale = lanes.length_m[lane] / max(lengths.sum(), 1e-6)
            starts = np.concatenate([[0.0], np.cumsum(lengths)])[:-1] * scale
            for (x, y), (dx, dy), length, start in zip(points, steps, lengths, starts, strict=False):
                if length > 1e-3:
                    rows.append((x, y, dx / length, dy / length, length, start, scale))
                    owner.append(int(lane))
        for before, after, gap_m in bridges:
            (x, y), (x1, y1) = lanes.shape_xy[before].reshape(-1, 2)[-1], lanes.shape_xy[after].reshape(-1, 2)[0]
            length = float(np.hypot(x1 - x, y1 - y))
            if length > 1e-3:
                rows.append((x, y, (x1 - x) / length, (y1 - y) / length, length, -gap_m, gap_m / length))
                owner.append(after)
        self._segments = np.array(rows, dtype=np.float64).reshape(-1, 7)
        self._segment_lane = np.array(owner, dtype=np.int32)
        self._build_grid()

    def _build_grid(self) -> None:
        start = self._segments[:, :2]
        end = start + self._segments[:, 2:4] * self._segments[:, 4:5]
        low = np.minimum(start, end) - self._reach_m - 2.0
        high = np.maximum(start, end) + self._reach_m + 2.0
        origin = low.min(axis=0) if len(low) else np.zeros(2)
        first = ((low - origin) // CELL_M).astype(np.int64)
        last = ((high - origin) // CELL_M).astype(np.int64)
        columns, lines = (last.max(axis=0) + 1) if len(last) else (1, 1)
        pairs = [
            (row * columns + column, segment)
            for segment, (a, b) in enumerate(zip(first, last, strict=True))
            for row in range(a[1], b[1] + 1)
            for column in range(a[0], b[0] + 1)
        ]
        table = np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2)
        self._cells = np.array([origin[0], origin[1], CELL_M, columns], dtype=np.float64)
        self._offsets = np.searchsorted(table[:, 0], np.arange(columns * lines + 1)).astype(np.int32)
        self._members = table[:, 1].astype(np.int32)

    @property
    def index(self) -> tuple[Floats, Ints, Floats, Ints, Ints]:
        """Segments, the lane of each, and the grid over them, as `placing_kernels.place_points` takes them."""
        return self._segments, self._segment_lane, self._cells, self._offsets, self._members

    def place(self, x_m: Floats, y_m: Floats, heading_rad: Floats, prior_lane: Ints) -> Placement:
        """Place points (N,); `prior_lane` (N,) is the lane believed so far, -1 none."""
        count = len(x_m)
        found = Placement(np.empty(count, np.int32), *(np.empty(count) for _ in range(4)))
        place_points(
            x_m,
            y_m,
            heading_rad,
            prior_lane,
            self._segments,
            self._segment_lane,
            self._cells,
            self._offsets,
            self._members,
            self._reach_m,
            *found,
        )
        return found
