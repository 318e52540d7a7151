"""Vehicles that tell their place now and then -> how long they took along which edges. See `SparseProbes`."""

from __future__ import annotations

import numpy as np

from networks.batches import ProbeBatch
from networks.graph import Floats, Ints, Network
from twin.map_matching import MapMatcher, Match

DENSE_S = 3.5  # whoever reports more often is followed on the vehicle lists, place by place
FORGET_AFTER_S = 240.0
LONGEST_S = 180.0  # between two places; a longer silence may hold a stop


class SparseProbes:
    """Matches sparse reports to the map and shares the time between two of them over the edges driven.

    Speed within a gap is taken as the same share of the limit on all its edges.
    """

    def __init__(self, network: Network) -> None:
        self._matcher = MapMatcher(network)
        self._edge, self._lane_m = network.lanes.edge, network.lanes.length_m
        self._limit_mps = network.lanes.speed_limit_mps
        self._last_s: dict[int, float] = {}
        self._before: dict[int, Match] = {}

    def take(self, batch: ProbeBatch, rows: Ints) -> tuple[Ints, Floats, Floats]:
        """Edges driven by sparse reporters among the rows, with seconds and metres on each; some may come twice."""
        edges: list[int] = []
        seconds: list[float] = []
        metres: list[float] = []
        for row in rows.tolist():
            vehicle, at_s = int(batch.vehicle[row]), float(batch.measured_at_s[row])
            last_s = self._last_s.get(vehicle)
            self._last_s[vehicle] = max(at_s, last_s or at_s)
            if last_s is not None and at_s - last_s <= DENSE_S:
                self._drop(vehicle)
                continue
            for match in self._matcher.note(
                vehicle,
                at_s,
                float(batch.x_m[row]),
                float(batch.y_m[row]),
                float(batch.heading_rad[row]),
                float(batch.speed_mps[row]),
            ):
                self._share(vehicle, match, edges, seconds, metres)
        return np.array(edges, np.int32), np.array(seconds), np.array(metres)

    def forget_before(self, at_s: float) -> None:
        """Forget vehicles not heard since."""
        for vehicle in [v for v, last_s in self._last_s.items() if last_s < at_s]:
            del self._last_s[vehicle]
            self._drop(vehicle)

    def _drop(self, vehicle: int) -> None:
        self._matcher.finish(vehicle)
        self._before.pop(vehicle, None)

    def _share(self, vehicle: int, match: Match, edges: list[int], seconds: list[float], metres: list[float]) -> None:
        before = self._before.get(vehicle)
        self._before[vehicle] = match
        if before is None or match.begins or not 0.0 < match.at_s - before.at_s <= LONGEST_S:
            return
        lanes = self._matcher.lanes_between(before, match)
        if not lanes:
            return
        driven: dict[int, tuple[float, float]] = {}
        for k, lane in enumerate(lanes):
            begin_m = before.position_m if k == 0 else 0.0
            end_m = match.position_m if k == len(lanes) - 1 else float(self._lane_m[lane])
            edge = int(self._edge[lane])
            if edge in driven:  # a lane change: of its two lanes the longer part counts
                end_m = max(end_m - begin_m, driven[edge][0]) + begin_m
            length_m = max(end_m - begin_m, 0.0)
            driven[edge] = (length_m, length_m / float(self._limit_mps[lane]))
        free_s = sum(part for _, part in driven.values())
        if free_s <= 0.0:
            return
        for edge, (length_m, part) in driven.items():
            edges.append(edge)
            seconds.append((match.at_s - before.at_s) * part / free_s)
            metres.append(length_m)
