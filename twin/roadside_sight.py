"""How far a roadside unit sees: learned from what it shows. See `RoadsideSight`."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from networks.graph import Floats, Ints, Network
from twin.street_places import StreetPlaces

MAX_RANGE_M = 150.0


class RoadsideSight:
    """One unit: when it last showed anything, when a vehicle known before, and the range that its tracks prove."""

    def __init__(self, network: Network, places: StreetPlaces, signal: int) -> None:
        centre = network.node_xy[list(network.signals[signal].nodes)].mean(axis=0)
        self._x, self._y = float(centre[0]), float(centre[1])
        self.spoke_s = self.heard_s = -math.inf
        self._range_m = self._drawn_m = 0.0
        self._points = [
            (lane, *_points_on(network, lane))
            for lane in range(len(network.lanes.ids))
            if np.hypot(*(np.reshape(network.lanes.shape_xy[lane], (-1, 2)) - centre).T).min() < MAX_RANGE_M
        ]
        none = np.zeros(0, np.int32), np.zeros(0), np.zeros(0)
        self._places = places
        self._sight: tuple[Ints, Floats, Floats] = none
        self.of_streets: tuple[Ints, Floats, Floats] = none  # the same by street lanes, as of the last `sight`

    def hear(self, at_s: float) -> None:
        self.heard_s = max(self.heard_s, at_s)

    def widen(self, x_m: Floats, y_m: Floats) -> None:
        furthest_m = float(np.hypot(x_m - self._x, y_m - self._y).max())
        self._range_m = min(max(self._range_m, furthest_m), MAX_RANGE_M)

    def sight(self) -> tuple[Ints, Floats, Floats]:
        """Lanes and the part of each (from, to metres) within the range that the unit has shown."""
        if self._range_m > self._drawn_m + 2.0:
            self._drawn_m = self._range_m
            rows = []
            for lane, position, xy in self._points:
                inside = np.hypot(xy[:, 0] - self._x, xy[:, 1] - self._y) < self._range_m
                if inside.any():
                    rows.append((lane, position[inside].min(), position[inside].max()))
            table = np.array(rows).reshape(-1, 3)
            self._sight = table[:, 0].astype(np.int32), table[:, 1].copy(), table[:, 2].copy()
            self.of_streets = self._places.of_parts(*self._sight)
        return self._sight


def _points_on(network: Network, lane: int) -> tuple[Floats, NDArray[np.float64]]:
    """Points every 3 m along a lane: positions (P,) and coordinates (P, 2)."""
    shape = np.reshape(network.lanes.shape_xy[lane], (-1, 2)).astype(np.float64)
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(shape, axis=0).T))])
    length = float(network.lanes.length_m[lane])
    position = np.append(np.arange(0.0, length, 3.0), length)
    drawn = position * along[-1] / max(length, 1e-6)
    return position, np.stack([np.interp(drawn, along, shape[:, 0]), np.interp(drawn, along, shape[:, 1])], axis=1)
