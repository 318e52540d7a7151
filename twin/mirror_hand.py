"""The hand that puts vehicles on the mirror's roads and takes them off, by what the street's lanes hold."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any

import numpy as np

from networks.graph import PASSENGER, Network
from scenarios.passages import Ride
from twin.mirror_lanes import LaneCorrection, LaneTraffic, free_place, rearmost_surplus
from twin.mirror_traffic import Account, Traffic
from twin.mirror_words import Observation

CARS = frozenset({"passenger", "private", "taxi", "evehicle"})  # what is put on the road by hand
CORRECTABLE = CARS | {"truck", "delivery", "trailer", "custom1"}  # what may be taken off, thinned or copied
ROUTES_KEPT = 24  # recent routes through an edge, for vehicles put on it


class Hand:
    """Inserts and removes vehicles; never one that the street's queue accounts for, never a bus."""

    def __init__(self, sumo: Any, network: Network, traffic: Traffic, account: Account) -> None:
        self._sumo, self._network, self._traffic, self._account = sumo, network, traffic, account
        self._lanes = LaneCorrection(network)
        self._for_cars = (network.lanes.allowed & PASSENGER) != 0
        self._routes: dict[int, deque[tuple[tuple[int, ...], str]]] = defaultdict(lambda: deque(maxlen=ROUTES_KEPT))
        self._own_routes: dict[tuple[int, ...], str] = {}
        self._placing: dict[str, int] = {}  # vehicles asked to appear on an edge in the next step

    def correct(self, seen: Observation, lanes: LaneTraffic) -> None:
        """Put on and take off what the lane counts ask for, where it can be done."""
        wanted = self._lanes.wanted(seen.lane_vehicles, seen.lane_vehicles_sd, lanes)
        taken: set[str] = set()

        def removable(vehicle: str) -> bool:
            return vehicle not in taken and self._traffic.rides[vehicle].kind in CORRECTABLE

        short = np.nan_to_num(seen.lane_vehicles - lanes.vehicles)
        for edge in np.flatnonzero(wanted).tolist():
            members = np.arange(self._network.edges.first_lane[edge], self._network.edges.first_lane[edge + 1])
            members = members[self._for_cars[members]]
            for _ in range(int(abs(wanted[edge]))):
                if wanted[edge] > 0:
                    done = self._insert(edge, members[np.argsort(-short[members], kind="stable")], seen, lanes)
                    short[done] -= done >= 0
                else:
                    by_surplus = members[np.argsort(short[members], kind="stable")]
                    done = self._remove(edge, by_surplus, seen, lanes, removable, taken)
                    short[done] += done >= 0
                if done < 0:
                    break
                self._lanes.done(edge, 1 if wanted[edge] > 0 else -1)
                if wanted[edge] > 0:
                    break  # one insertion an edge and step: the scan does not know the new vehicle yet

    def _remove(
        self,
        edge: int,
        members: Any,
        seen: Observation,
        lanes: LaneTraffic,
        removable: Callable[[str], bool],
        taken: set[str],
    ) -> int:
        """Take one vehicle off the fullest of the lanes that lets one go; its lane, or -1."""
        for lane in members.tolist():
            row = rearmost_surplus(lanes, lane, removable, float(seen.lane_queue_veh[lane]))
            if row < 0:
                continue
            vehicle = lanes.ids[row]
            taken.add(vehicle)
            self._sumo.vehicle.remove(vehicle)
            self._traffic.rides.pop(vehicle)
            self._traffic.forget(vehicle)
            lanes.vehicles[lane] -= 1
            lanes.queue[lane] -= lanes.speed_mps[row] < 2.0
            self._account.log(self._sumo.simulation.getTime(), "remove", vehicle, edge)
            return int(lane)
        return -1

    def _insert(self, edge: int, members: Any, seen: Observation, lanes: LaneTraffic) -> int:
        """Ask SUMO to put one vehicle on the emptiest lane with room and a route; its lane, or -1."""
        table = self._network.lanes
        for lane in members.tolist():
            queued = bool(seen.lane_queue_veh[lane] > lanes.queue[lane] + 1.0)
            length_m, limit_mps = float(table.length_m[lane]), float(table.speed_limit_mps[lane])
            found = self._route_from(edge, lane)
            if found is None:
                continue
            position = self._sumo.vehicle.getLanePosition
            rows = lanes.on(lane)
            fronts = np.array([position(lanes.ids[row]) for row in rows], np.float64)
            speeds = lanes.speed_mps[rows.start : rows.stop]
            place_m = free_place(fronts, speeds, length_m, limit_mps, queued=queued)
            if np.isnan(place_m):
                continue
            vehicle = self._account.name()
            try:
                self._sumo.vehicle.add(
                    vehicle,
                    found[0],
                    typeID=found[1],
                    depart="now",
                    departLane=str(int(table.index[lane])),
                    departPos=f"{max(1.0, place_m):.2f}",
                    departSpeed="0" if queued else "avg",
                )
            except self._sumo.TraCIException:
                continue  # this type may not use this lane
            self._traffic.born[vehicle] = edge
            self._placing[vehicle] = edge
            return int(lane)
        return -1

    def _route_from(self, edge: int, lane: int) -> tuple[str, str] | None:
        """A route that somebody lately drove through the edge, from there on and served by the lane; and a type."""
        movements = self._network.movements
        ahead = self._network.lanes.edge[movements.to_lane[self._network.lane_movements[lane]]]
        recent = self._routes[edge]
        for _ in range(len(recent)):
            route, kind = recent[0]
            recent.rotate(-1)
            rest = route[route.index(edge) :]
            if len(rest) == 1 or rest[1] in ahead:
                return self.route_named(rest), kind
        return None

    def route_named(self, edges: tuple[int, ...]) -> str:
        """A route of our own: SUMO's for single vehicles and flows vanish with them, and with them the run."""
        name = self._own_routes.get(edges)
        if name is None:
            name = self._own_routes[edges] = f"mirror_{self._account.life}_route_{len(self._own_routes)}"
            self._sumo.route.add(name, [self._network.edges.ids[e] for e in edges])
        return name

    def settle(self) -> None:
        """After the step: vehicles that SUMO did not find room for are taken back, the others are logged."""
        for vehicle, edge in self._placing.items():
            if vehicle in self._traffic.rides:
                self._account.log(self._sumo.simulation.getTime(), "insert", vehicle, edge)
            else:
                self._sumo.vehicle.remove(vehicle)
                self._traffic.forget(vehicle)
        self._placing = {}

    def keep_route(self, vehicle: str, ride: Ride) -> None:
        if ride.kind in CARS:
            kept = ride.route, self._sumo.vehicle.getTypeID(vehicle)
            for edge in ride.route:
                self._routes[edge].append(kept)
