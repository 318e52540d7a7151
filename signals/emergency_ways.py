"""Which stop lines emergency vehicles come to next, when, and who stands in their way."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from networks.graph import Floats, Network, group_rows
from networks.route_book import RouteBook
from networks.state import VehicleTable
from signals.controllers.approaches import StopLineMap
from signals.controllers.junction_choice import travel_time_s
from signals.priority import EMERGENCY

SURE_FRAC = 0.5  # an emergency vehicle less certain than this may be a mistake
FURTHEST_S = 180.0  # ways are followed no further ahead
SLOWEST_MPS = 3.0


@dataclass(frozen=True, slots=True)
class Call:
    """One emergency vehicle on its way to one signal."""

    vehicle: int
    signal: int
    links: tuple[int, ...]  # any of them leads on
    beside: tuple[int, ...]  # all links of the street it comes by: who stands before it has to get away
    arrival_s: float  # earliest, from now
    ahead_veh: float  # vehicles before it in its lane


class EmergencyWays:
    """Follows emergency vehicles on the fastest way to the destination told; without one to the next signal."""

    def __init__(self, network: Network, stop_lines: StopLineMap) -> None:
        self._network, self._lines = network, stop_lines
        self._routes = RouteBook(network)
        self._from_edge = network.lanes.edge[network.movements.from_lane]
        self._to_edge = network.lanes.edge[network.movements.to_lane]
        self._of_edge = group_rows(self._from_edge, len(network.edges.ids))

    def find(self, table: VehicleTable, most: int) -> list[Call]:
        """At most `most` calls a vehicle, all of them by time of arrival."""
        rows = np.flatnonzero((table.kind == EMERGENCY) & (table.certainty >= SURE_FRAC))
        if not len(rows):
            return []
        on_lane = np.bincount(table.lane, table.certainty, len(self._network.lanes.ids)).astype(np.float64)
        calls = [call for row in rows.tolist() for call in self._follow(table, row, on_lane)[:most]]
        return sorted(calls, key=lambda call: call.arrival_s)

    def _follow(self, table: VehicleTable, row: int, on_lane: Floats) -> list[Call]:
        lanes, edges, moves = self._network.lanes, self._network.edges, self._network.movements
        lane = int(table.lane[row])
        before = (table.lane == lane) & (table.position_m > table.position_m[row])
        ahead_veh = float(table.certainty[before].sum())
        limit_mps = np.maximum(lanes.speed_limit_mps[[lane]], SLOWEST_MPS)
        left_m = np.maximum(lanes.length_m[[lane]] - table.position_m[[row]], 0.0)
        arrival_s = float(travel_time_s(left_m, table.speed_mps[[row]], limit_mps)[0])
        onward = self._first_moves(table, row)
        if not onward:
            return self._by_lane(table, row, ahead_veh, arrival_s)
        calls: list[Call] = []
        destination, passed = int(table.destination_edge[row]), set[int]()
        while onward and arrival_s < FURTHEST_S:
            edge = int(self._from_edge[onward[0]])
            if edge in passed:
                break
            passed.add(edge)
            signal = int(moves.signal[onward[0]])
            if signal >= 0:
                calls.append(self._call(int(table.id[row]), signal, onward, edge, arrival_s, ahead_veh))
            following = int(self._to_edge[onward[0]])
            speed_mps = max(float(edges.speed_limit_mps[following]), SLOWEST_MPS)
            arrival_s += float(moves.length_m[onward[0]] + edges.length_m[following]) / speed_mps
            onward = self._moves_towards(following, destination) if destination >= 0 else []
            used = np.unique(moves.from_lane[onward]) if onward else np.zeros(0, np.int32)
            ahead_veh = float(on_lane[used].mean()) if len(used) else 0.0
        return calls

    def _first_moves(self, table: VehicleTable, row: int) -> list[int]:
        """Movements that leave its edge the way it will go, those of its own lane where it leads there; else none."""
        lane, movement = int(table.lane[row]), int(table.movement[row])
        sure = table.movement_sure is None or bool(table.movement_sure[row])
        if movement >= 0 and sure and int(self._network.movements.from_lane[movement]) == lane:
            return [movement]
        destination = int(table.destination_edge[row])
        if destination < 0:
            return []
        onward = self._moves_towards(int(self._network.lanes.edge[lane]), destination)
        own = [m for m in onward if int(self._network.movements.from_lane[m]) == lane]
        return own or onward

    def _moves_towards(self, edge: int, destination: int) -> list[int]:
        following = int(self._routes.next_edges(destination)[edge])
        return [int(m) for m in self._of_edge[edge] if self._to_edge[int(m)] == following]

    def _call(
        self, vehicle: int, signal: int, onward: list[int], edge: int, arrival_s: float, ahead_veh: float
    ) -> Call:
        moves = self._network.movements
        links = tuple(sorted({int(moves.link[m]) for m in onward if moves.signal[m] == signal}))
        beside = sorted({int(moves.link[int(m)]) for m in self._of_edge[edge] if moves.signal[int(m)] == signal})
        return Call(vehicle, signal, links, tuple(beside), arrival_s, ahead_veh)

    def _by_lane(self, table: VehicleTable, row: int, ahead_veh: float, arrival_s: float) -> list[Call]:
        """Nobody knows where it goes: all links of the lane that it comes by at the next signal."""
        lane = int(table.lane[row])
        signal, approach = int(self._lines.signal[lane]), int(self._lines.lane[lane])
        if signal < 0:
            return []
        further_m = float(self._lines.ahead_m[lane])
        arrival_s += further_m / max(float(self._network.lanes.speed_limit_mps[approach]), SLOWEST_MPS)
        links = tuple(sorted({int(k) for k in self._lines.lane_links[approach] if k >= 0}))
        return [Call(int(table.id[row]), signal, links, links, arrival_s, ahead_veh)]
