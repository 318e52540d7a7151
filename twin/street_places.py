"""Between the network's lanes and the street lanes that vehicle lists are kept on. See `StreetPlaces`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from networks.graph import Floats, Ints
from networks.pieces import StreetPieces
from twin.fusion_kernels import Pool
from twin.placing import Placement

QUEUED_MPS = 2.0


class StreetPlaces:
    """Reports are told by lanes and so are answers; lists go on over the pieces that a street is drawn in."""

    def __init__(self, pieces: StreetPieces) -> None:
        self.pieces = pieces
        pairs = np.array(pieces.belongings(), np.int32).reshape(-1, 2)
        key = self._key(pairs[:, 0], pairs[:, 1])
        order = np.argsort(key)
        self._keys, self._street = key[order], pairs[order, 1]
        self._first = np.searchsorted(pairs[order, 0], np.arange(len(pieces.line) + 1))
        # pairs go upstream street by street: from a piece one moves into the one before it in the list
        onward = np.where(pairs[:, 0] == pairs[:, 1], -1, np.roll(pieces.into[pairs[:, 0]], 1))
        self._onward = onward[order].astype(np.int32)
        upward = np.flatnonzero(pieces.before >= 0)
        self._upward = upward[np.argsort(-pieces.begin_m[upward], kind="stable")].tolist()

    def of_pool(self, pool: Pool, rows: Ints | NDArray[np.intp]) -> tuple[Ints, Floats]:
        """Lane and position on it of listed vehicles; below 0: in the junction, or gap, before it."""
        return self.pieces.locate(pool.lane[rows], pool.position_m[rows])

    def onward(self, lane: Ints, street: Ints) -> Ints:
        """Movement from a piece (N,) to the next on the way to the end of the street lane; -1 from the last."""
        onward: Ints = self._onward[np.searchsorted(self._keys, self._key(lane, street))]
        return onward

    def _key(self, lane: Ints, street: Ints) -> NDArray[np.int64]:
        return lane.astype(np.int64) * len(self.pieces.line) + street

    def of_reports(self, placed: Placement, believed: Ints, believed_lane: Ints) -> Placement:
        """Places on lanes as places on street lanes; `believed` is each one's street lane so far, -1 none."""
        begin_m = self.pieces.begin_m
        street = self.pieces.street(placed.lane, believed)
        return placed._replace(
            lane=street,
            position_m=placed.position_m + np.where(placed.lane >= 0, begin_m[placed.lane], 0.0),
            prior_position_m=placed.prior_position_m + np.where(believed_lane >= 0, begin_m[believed_lane], 0.0),
        )

    def of_parts(self, lanes: Ints, low_m: Floats, high_m: Floats) -> tuple[Ints, Floats, Floats]:
        """Parts of lanes as parts of street lanes, from the first metre to the last."""
        count = self._first[lanes + 1] - self._first[lanes]
        row = np.repeat(np.arange(len(lanes)), count)
        at = self._first[lanes][row] + np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
        streets, inverse = np.unique(self._street[at], return_inverse=True)
        low, high = np.full(len(streets), np.inf), np.full(len(streets), -np.inf)
        begin_m = self.pieces.begin_m[lanes[row]]
        np.minimum.at(low, inverse, low_m[row] + begin_m)
        np.maximum.at(high, inverse, high_m[row] + begin_m)
        return streets, low, high

    def sums(self, pool: Pool) -> tuple[Floats, Floats, Floats]:
        """Expected vehicles, those in queue, and the sum of speeds, per lane (L,); nobody in junctions or gaps."""
        rows = np.flatnonzero((pool.lane >= 0) & (pool.position_m >= 0.0))
        rows = rows[pool.position_m[rows] <= self.pieces.end_m[pool.lane[rows]]]
        lane, position_m = self.of_pool(pool, rows)
        rows, lane = rows[position_m >= 0.0], lane[position_m >= 0.0]
        weight, speed, count = pool.certainty[rows], pool.speed_mps[rows], len(self.pieces.line)
        vehicles: Floats = np.bincount(lane, weight, count).astype(np.float64)
        queue: Floats = np.bincount(lane, weight * (speed < QUEUED_MPS), count).astype(np.float64)
        moving: Floats = np.bincount(lane, weight * speed, count).astype(np.float64)
        return vehicles, queue, moving

    def coming(self, pool: Pool) -> Floats:
        """Of the expected vehicles of each lane (L,) those that its upstream loop has not counted yet."""
        rows = np.flatnonzero((pool.lane >= 0) & (pool.position_m >= 0.0) & ~pool.counted)
        lane, _ = self.of_pool(pool, rows)
        coming: Floats = np.bincount(lane, pool.certainty[rows], len(self.pieces.line)).astype(np.float64)
        return coming

    def passed(self, left: Floats) -> Floats:
        """Vehicles that left each street lane (L,) as vehicles that passed the end of every lane of it."""
        passed = left.copy()
        for lane in self._upward:
            passed[self.pieces.before[lane]] += passed[lane]
        return passed
