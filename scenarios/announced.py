"""Closures, limits and rain that are known in advance, and how they act on a mesoscopic run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from networks.graph import Network
from scenarios.passages import Passages
from scenarios.street_works import AVOID_S
from scenarios.weather import RainyDriving

_SIGNALS = 1.5  # times the free time that a way takes where signals are on it


class SlowEdge(NamedTuple):
    """An edge closed as a whole (`limit_mps` 0) or with a lower limit, between two epoch seconds."""

    edge: int
    limit_mps: float
    begin_s: float
    end_s: float


class Shower(NamedTuple):
    """Rain over the whole city, between two epoch seconds."""

    rain_mm_h: float
    begin_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Announced:
    """What is known in advance."""

    edges: tuple[SlowEdge, ...] = ()
    showers: tuple[Shower, ...] = ()
    rain_strength: float = 1.0  # how much drivers mind the rain, beside what the sources say

    def __bool__(self) -> bool:
        return bool(self.edges or self.showers)

    def rain_mm_h(self, at_s: float) -> float:
        return max((s.rain_mm_h for s in self.showers if s.begin_s <= at_s < s.end_s), default=0.0)


class Happenings:
    """Makes what was announced real in a mesoscopic run.

    Drivers who would come to a closed edge while it is closed take another way from the start: changing routes on
    the way crashes a mesoscopic run of SUMO 1.28, and its own rerouters leave those behind a closed edge standing.
    """

    def __init__(self, sumo: Any, network: Network, passages: Passages, announced: Announced) -> None:
        self._sumo, self._network, self._passages, self._announced = sumo, network, passages, announced
        self._rain = RainyDriving(sumo, strength=announced.rain_strength)
        self._slow: set[SlowEdge] = set()
        self._closed = {network.edges.ids[s.edge]: s for s in announced.edges if s.limit_mps <= 0}
        self._free_s = network.edges.length_m / np.maximum(network.edges.speed_limit_mps, 1.0)
        for name in self._closed:
            sumo.edge.adaptTraveltime(name, AVOID_S)

    def apply(self, now_s: float, departed: Sequence[str]) -> None:
        """Call every step with the motor vehicles that departed in it; `now_s`: epoch seconds."""
        self._rain.apply(self._announced.rain_mm_h(now_s), departed)
        for slow in self._announced.edges:
            due = slow.limit_mps > 0 and slow.begin_s <= now_s < slow.end_s
            if due == (slow in self._slow):
                continue
            limit_mps = float(self._network.edges.speed_limit_mps[slow.edge])
            self._sumo.edge.setMaxSpeed(self._network.edges.ids[slow.edge], slow.limit_mps if due else limit_mps)
            self._slow ^= {slow}
        for vehicle in departed if self._closed else ():
            if self._meets_closure(self._passages.rides[vehicle].route, now_s):
                self._sumo.vehicle.rerouteTraveltime(vehicle)
                self._passages.greet_again(vehicle)

    def _meets_closure(self, route: tuple[int, ...], now_s: float) -> bool:
        at_s = now_s
        for edge in route[:-1]:  # whoever wants to end there may
            slow = self._closed.get(self._network.edges.ids[edge])
            if slow is not None and slow.begin_s <= at_s < slow.end_s and edge != route[0]:
                return True
            at_s += _SIGNALS * float(self._free_s[edge])
        return False
