"""Count vehicles through the edges of a running simulation without asking SUMO about every edge every second.

A vehicle's position in its own route tells which edges it has left since the last look, so a look every few seconds
loses no passage, and costs one getter a vehicle (0.4 µs) where subscriptions cost four to six times that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from networks.graph import Floats, Network

UNCOUNTED = frozenset({"bicycle", "pedestrian", "moped"})  # loops and lane queues are about motor vehicles


@dataclass(slots=True)
class Ride:
    """One vehicle on the road: its route in dense edge indices and how far it got."""

    route: tuple[int, ...]
    at: int
    kind: str  # SUMO vehicle class


class Passages:
    """The motor vehicles of one simulation and the edges they leave.

    `left` (E,) counts passages since the caller last cleared it; `departed` and `arrived` (E,) likewise.
    Leaving includes arriving at the edge. `sumo` is the libsumo module of a started simulation.
    """

    def __init__(self, sumo: Any, network: Network) -> None:
        self._sumo = sumo
        self._edge_index = network.edge_index
        self._routes: dict[str, tuple[int, ...]] = {}
        self.rides: dict[str, Ride] = {}
        edges = len(network.edges.ids)
        self.left, self.departed, self.arrived = np.zeros(edges), np.zeros(edges), np.zeros(edges)

    def adopt_running(self) -> None:
        """Take over the vehicles of a loaded snapshot."""
        for vehicle in self._sumo.vehicle.getIDList():
            ride = self._greet(vehicle)
            if ride is not None:
                ride.at = max(0, self._sumo.vehicle.getRouteIndex(vehicle))

    def note_step(self) -> list[str]:
        """Call after every step. Gives back the motor vehicles that departed in it."""
        fresh = []
        for vehicle in self._sumo.simulation.getDepartedIDList():
            ride = self._greet(vehicle)
            if ride is not None:
                self.departed[ride.route[0]] += 1
                self.enter(vehicle, ride.route[0])
                fresh.append(vehicle)
        for vehicle in self._sumo.simulation.getArrivedIDList():
            ride = self.rides.get(vehicle)
            if ride is not None:
                self._advance(vehicle, ride, len(ride.route))
                self.arrived[ride.route[-1]] += 1
                del self.rides[vehicle]
        return fresh

    def look(self) -> None:
        """Bring every vehicle's place up to date."""
        route_index = self._sumo.vehicle.getRouteIndex
        for vehicle, ride in self.rides.items():
            at = route_index(vehicle)
            if at > ride.at:
                self._advance(vehicle, ride, at)

    def greet_again(self, vehicle: str) -> None:
        """Take note of the new route of a vehicle that has just departed."""
        self._greet(vehicle)

    def enter(self, vehicle: str, edge: int) -> None:
        """A vehicle has come onto an edge, or departed there: for subclasses that learn from it."""

    def take(self) -> tuple[Floats, Floats, Floats]:
        """The counters (left, departed, arrived), each (E,), which start again from zero."""
        counted = self.left.copy(), self.departed.copy(), self.arrived.copy()
        for counter in (self.left, self.departed, self.arrived):
            counter[:] = 0.0
        return counted

    def route_of(self, vehicle: str) -> tuple[int, ...]:
        """Dense edges of the vehicle's route; edges that the network leaves out are skipped."""
        name = self._sumo.vehicle.getRouteID(vehicle)
        route = self._routes.get(name)
        if route is None:
            index = self._edge_index
            route = tuple(index[e] for e in self._sumo.vehicle.getRoute(vehicle) if e in index)
            self._routes[name] = route
        return route

    def _advance(self, vehicle: str, ride: Ride, at: int) -> None:
        for edge in ride.route[ride.at : at]:
            self.left[edge] += 1
        for edge in ride.route[ride.at + 1 : at + 1]:
            self.enter(vehicle, edge)
        ride.at = at

    def _greet(self, vehicle: str) -> Ride | None:
        kind = self._sumo.vehicle.getVehicleClass(vehicle)
        route = self.route_of(vehicle)
        if kind in UNCOUNTED or not route:
            return None
        ride = self.rides[vehicle] = Ride(route, 0, kind)
        return ride
