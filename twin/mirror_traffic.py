"""The mirror's vehicles with what the corrections must know of them, and the account of every change by hand."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from networks.graph import Bools, Floats, Network, number_pairs
from scenarios.passages import Passages, Ride
from twin.mirror_lanes import LaneTraffic, lane_traffic
from twin.mirror_words import Change


class Window(NamedTuple):
    """What one look added to the moving averages."""

    at_s: float
    span_s: float
    left: Floats  # (E,) vehicles
    speed_sum: Floats  # (E,) m/s
    samples: Floats  # (E,) vehicles behind it
    scheduled: Floats  # (E,) vehicles that met their first sensor, in scheduled ones
    passing: Floats  # (E,) other vehicles that came onto a measured edge
    placed: Floats  # (E,) vehicles put there by hand less those taken away
    mirrored: Floats  # (E,) vehicles on the edge at the look
    stored: Floats  # (E,) as the street reports them, NaN unknown
    turned: Floats  # (T,) vehicles by turn, see `Traffic.turned`


class Tally(NamedTuple):
    """Counters that survive a restart with the snapshot they were saved with."""

    departed: int = 0
    arrived: int = 0
    inserted: int = 0
    removed: int = 0
    copied: int = 0
    thinned: int = 0
    teleports: int = 0


class Traffic(Passages):
    """Passages that tell which vehicles meet their first sensor where."""

    def __init__(self, sumo: Any, network: Network) -> None:
        super().__init__(sumo, network)
        edges = len(network.edges.ids)
        self.measured: Bools = np.zeros(edges, np.bool_)
        self.scheduled, self.passing = np.zeros(edges), np.zeros(edges)
        moves, of_edge = network.movements, network.lanes.edge
        turns, self.turn_of_movement = number_pairs(of_edge[moves.from_lane], of_edge[moves.to_lane])
        self._turn = {(source, target): turn for turn, (source, target) in enumerate(turns.tolist())}
        self.turned = np.zeros(len(self._turn))  # vehicles from one edge to another, since the caller last cleared it
        self.weight: dict[str, float] = {}  # scheduled vehicles that a vehicle stands for until its first sensor
        self.born: dict[str, int] = {}  # edge that a vehicle was put on by hand
        motor = network.lanes.motor
        self._lanes = [
            (lane, network.lanes.ids[lane], int(network.lanes.edge[lane])) for lane in np.flatnonzero(motor).tolist()
        ]
        self._lane_count = len(motor)

    def scan(self) -> LaneTraffic:
        """Everybody's lane and speed, and with that the edges left since the last look.

        One call a lane and one a vehicle: asking each vehicle for its lane, place and way costs four times as much.
        Vehicles inside junctions are on no lane, and have not left the edge before yet.
        """
        vehicles_on, rides = self._sumo.lane.getLastStepVehicleIDs, self.rides
        ids: list[str] = []
        lanes: list[int] = []
        for lane, name, edge in self._lanes:
            for vehicle in vehicles_on(name):
                ride = rides.get(vehicle)
                if ride is None:
                    continue
                ids.append(vehicle)
                lanes.append(lane)
                if ride.route[ride.at] != edge:
                    try:
                        self._advance(vehicle, ride, ride.route.index(edge, ride.at))
                    except ValueError:
                        self._detour(vehicle, ride, edge)
        speed = self._sumo.vehicle.getSpeed
        return lane_traffic(ids, lanes, [speed(vehicle) for vehicle in ids], self._lane_count)

    def _detour(self, vehicle: str, ride: Ride, edge: int) -> None:
        """The vehicle is on an edge that its route as known does not hold: it has got another."""
        route = self.route_of(vehicle)
        if edge in route:
            self.left[ride.route[ride.at]] += 1
            ride.route, ride.at = route, route.index(edge)
            self.enter(vehicle, edge)

    def enter(self, vehicle: str, edge: int) -> None:
        """Count the vehicle at the edge's sensor, as scheduled or as passing; not where it was put by hand."""
        if self.measured[edge] and self.born.get(vehicle) != edge:
            weight = self.weight.pop(vehicle, None)
            if weight is None:
                self.passing[edge] += 1.0
            else:
                self.scheduled[edge] += weight

    def _advance(self, vehicle: str, ride: Ride, at: int) -> None:
        for turn in pairwise(ride.route[ride.at : at + 1]):
            number = self._turn.get(turn)
            if number is not None:
                self.turned[number] += 1.0
        super()._advance(vehicle, ride, at)

    def first_sensor(self, route: tuple[int, ...]) -> int:
        """The first measured edge of a route, -1 for none."""
        return next((edge for edge in route if self.measured[edge]), -1)

    def forget(self, vehicle: str) -> None:
        self.weight.pop(vehicle, None)
        self.born.pop(vehicle, None)


class Account:
    """Every vehicle counted once, and a name for each that is added."""

    def __init__(self, life: int, edges: int) -> None:
        self.life, self.added = life, 0
        self.tally = Tally()
        self.changes: list[Change] = []  # of this cycle
        self.placed = np.zeros(edges)  # vehicles put on each edge by hand less those taken away, since the last look

    def log(self, at_s: float, action: str, vehicle: str, edge: int) -> None:
        self.changes.append(Change(at_s, action, vehicle, edge))
        if action in ("insert", "remove"):
            self.placed[edge] += 1.0 if action == "insert" else -1.0
        counter = {"insert": "inserted", "remove": "removed", "copy": "copied", "thin": "thinned"}[action]
        self.tally = self.tally._replace(**{counter: getattr(self.tally, counter) + 1})

    def name(self) -> str:
        self.added += 1
        return f"mirror_{self.life}_{self.added}"
