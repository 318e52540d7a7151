"""Who the vehicles of a running simulation are: what a policy of priorities asks of them."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from networks.batches import VEHICLE_KINDS
from networks.graph import Network
from scenarios.demand import kind_of_class

_BUS = VEHICLE_KINDS.index("bus")


class Traveller(NamedTuple):
    number: int  # counts up from 1 in order of first sight
    kind: int  # index into VEHICLE_KINDS
    destination_edge: int  # dense, -1 unknown
    late_s: float  # behind its timetable, NaN without one


class Travellers:
    """Reads each vehicle once, and buses at every look."""

    def __init__(self, libsumo: Any, network: Network) -> None:
        self._vehicle, self._edge_index = libsumo.vehicle, network.edge_index
        self._known: dict[str, Traveller] = {}
        self._timetable: dict[str, list[float]] = {}  # `until` of each stop
        self._late_s: dict[str, tuple[int, float]] = {}  # stops passed, lateness at the last of them

    def look(self, name: str, now_s: float) -> Traveller:
        """A vehicle that is in the simulation now, simulated time."""
        known = self._known.get(name)
        if known is None:
            known = self._known[name] = self._greet(name)
        return known._replace(late_s=self._lateness_s(name, now_s)) if name in self._timetable else known

    def _greet(self, name: str) -> Traveller:
        kind = VEHICLE_KINDS.index(kind_of_class(self._vehicle.getVehicleClass(name)))
        if kind == _BUS:
            told = [stop.until for stop in self._vehicle.getStops(name, 0)]
            if told:
                self._timetable[name] = told
        route = self._vehicle.getRoute(name)
        return Traveller(len(self._known) + 1, kind, self._edge_index.get(route[-1], -1), math.nan)

    def _lateness_s(self, name: str, now_s: float) -> float:
        """How late it left its last stop, or is at the next one by now."""
        told = self._timetable[name]
        passed = len(told) - len(self._vehicle.getStops(name, 0))
        before, late_s = self._late_s.get(name, (0, math.nan))
        if passed != before:
            late_s = now_s - told[passed - 1] if told[passed - 1] >= 0.0 else math.nan
            self._late_s[name] = passed, late_s
        if passed < len(told) and 0.0 <= told[passed] < now_s:
            return max(now_s - told[passed], 0.0 if math.isnan(late_s) else late_s)
        return late_s
