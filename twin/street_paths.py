"""Lines and points told by others (works, events, warnings) -> edges of our network. See `StreetPaths`."""

from __future__ import annotations

import math

import numpy as np

from networks.graph import Floats, Network
from twin.placing import LaneFinder

REACH_M = 15.0
"""A line drawn by others may run so far from our lanes: half a wide road and their drawing error."""
STEP_M = 5.0
LEAST_SHARE, LEAST_M = 0.5, 30.0
"""An edge is meant when the line runs along half of it, or along thirty metres."""
_DIRECTIONS = 8


class StreetPaths:
    def __init__(self, network: Network) -> None:
        self._finder = LaneFinder(network, REACH_M)
        self._edge_of = network.lanes.edge
        self._edge_m = network.edges.length_m

    def along(self, x_m: Floats, y_m: Floats) -> tuple[int, ...]:
        """Edges that a line (P,) runs along in its own direction, in the order of first touch; () none."""
        steps = np.hypot(np.diff(x_m), np.diff(y_m))
        at_m = np.concatenate([[0.0], np.cumsum(steps)])
        if not (np.isfinite(at_m[-1]) and 0.0 < at_m[-1] < 1e5):
            return ()
        samples = np.arange(STEP_M / 2, at_m[-1], STEP_M)
        if not len(samples):
            samples = np.array([at_m[-1] / 2])
        keep = np.concatenate([[True], steps > 1e-6])
        x = np.asarray(np.interp(samples, at_m[keep], x_m[keep]), np.float64)
        y = np.asarray(np.interp(samples, at_m[keep], y_m[keep]), np.float64)
        leg = np.clip(np.searchsorted(at_m[keep], samples, side="right") - 1, 0, int(keep.sum()) - 2)
        heading = np.arctan2(np.diff(y_m[keep]), np.diff(x_m[keep]))[leg]
        lane = self._finder.place(x, y, heading, np.full(len(x), -1, np.int32)).lane
        edges = self._edge_of[lane[lane >= 0]]
        covered_m = np.bincount(edges, minlength=len(self._edge_m)) * (at_m[-1] / len(samples))
        needed_m = np.minimum(LEAST_SHARE * self._edge_m, LEAST_M)
        needed_m = np.minimum(needed_m, 0.9 * at_m[-1])
        return tuple(int(edge) for edge in dict.fromkeys(edges.tolist()) if covered_m[edge] >= needed_m[edge])

    def at(self, x_m: float, y_m: float) -> int:
        """The edge nearest to a point, -1 none in reach."""
        headings = np.linspace(0.0, 2.0 * math.pi, _DIRECTIONS, endpoint=False)
        x, y = np.full(_DIRECTIONS, x_m, np.float64), np.full(_DIRECTIONS, y_m, np.float64)
        found = self._finder.place(x, y, headings, np.full(_DIRECTIONS, -1, np.int32))
        best = int(found.lateral_m.argmin())
        return int(self._edge_of[found.lane[best]]) if found.lane[best] >= 0 else -1
