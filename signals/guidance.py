"""Route advice on forecast travel times, given to a few at a time so that the advice does not move the jam."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace

import numpy as np

from networks.batches import VEHICLE_KINDS
from networks.graph import Bools, Floats, Ints, Network
from networks.messages import GuidanceOrder, RouteAdvice, SpeedAdvice
from networks.state import Forecast, NetworkState, check_shapes
from signals.glosa import SpeedHint, glosa
from signals.guidance_kernels import search_from, search_to, walk
from signals.route_graph import build_route_graph
from signals.travel_times import TravelTimes, nearest_quantile, travel_times

__all__ = ["Guidance", "GuidanceRules", "RouteGuide", "SpeedHint", "glosa", "to_order"]

_FULL_PENALTY_S = 900.0  # an edge without spare capacity is not worth a quarter of an hour
_ROUNDS = 3  # after each, those whose detour was full look for another
_NORMAL_10_90 = 2.563  # standard deviations between the 10 % and the 90 % quantile


@dataclass(frozen=True, slots=True)
class GuidanceRules:
    """When advice is worth giving."""

    least_gain_s: float = 60.0
    least_gain_frac: float = 0.15
    silence_s: float = 120.0  # after an advice the vehicle is left alone
    decide_before_m: float = 40.0  # nearer to the stop line it cannot change lanes any more
    usable_capacity_frac: float = 0.9
    share_window_s: float = 300.0  # spare capacity is counted, and advice remembered against it, over this time
    valid_s: float = 30.0
    forget_s: float = 900.0


@dataclass(frozen=True, slots=True)
class Guidance:
    """Advice of one cycle. Row i: the share of the equipped cars on `from_edge` bound for `destination_edge` that
    should take `routes[i]`."""

    made_at_s: float
    valid_until_s: float
    from_edge: Ints  # (R,)
    destination_edge: Ints  # (R,)
    routes: tuple[tuple[int, ...], ...]  # edges, from_edge first, destination last
    share: Floats  # (R,) 0..1
    vehicles: Ints  # (R,) how many that is now
    expected_s: Floats  # (R,) travel time left
    spread_s: Floats  # (R,) its standard deviation
    gain_s: Floats  # (R,) against the presumed route; inf where that is closed
    requests: int  # cars that asked
    refused_full: int  # cars that found every worthwhile detour full
    speeds: tuple[SpeedHint, ...] = ()


@dataclass(frozen=True, slots=True)
class _Request:
    vehicle: int
    edge: int
    destination: int
    rest_frac: float  # of the edge still ahead


@dataclass(frozen=True, slots=True)
class _Advised:
    route: tuple[int, ...]
    new_edges: tuple[int, ...]  # not on the route presumed before: what the advice loads
    at_s: float


@dataclass(frozen=True, slots=True)
class _Offer:
    route: tuple[int, ...]
    expected_s: float
    spread_s: float
    gain_s: float


class RouteGuide:
    """Advises equipped cars with a known destination.

    A car is presumed to follow its last advice while it is on it, else the fastest route of an empty network. It is
    advised when another route gains enough, and then left in peace for a while. Each advice uses up spare capacity
    of the edges it newly loads, so that the next cars see what is left.
    """

    def __init__(
        self, network: Network, *, free_time_s: Floats | None = None, rules: GuidanceRules | None = None
    ) -> None:
        """`free_time_s` (E,): travel time of the empty edge, mean wait at the signal included."""
        self._network = network
        self._graph = build_route_graph(network)
        self._free_time_s = self._graph.free_time_s if free_time_s is None else free_time_s
        self._rules = rules or GuidanceRules()
        edges = len(network.edges.ids)
        check_shapes("E", free_time_s=self._free_time_s, edges=network.edges.length_m)
        room = len(self._graph.targets) + 1
        self._heap_key, self._heap_node = np.empty(room), np.empty(room, np.int32)
        self._leave_s, self._previous = np.empty(edges), np.empty(edges, np.int32)
        self._usual_next: dict[int, Ints] = {}
        self._advised: dict[int, _Advised] = {}

    @property
    def free_time_s(self) -> Floats:
        """Travel time of each empty edge (E,), mean wait at its signal included."""
        return self._free_time_s

    def advise(
        self, state: NetworkState, forecast: Forecast | None, now_s: float, *, closed: Bools | None = None
    ) -> Guidance:
        """New advice at `now_s`. `closed` (E,): edges that may not be entered; who is bound through one is advised
        at once, whatever the gain and the spare capacity."""
        shut = ~self._graph.open_to_cars if closed is None else closed | ~self._graph.open_to_cars
        check_shapes("E", closed=shut, edges=self._network.edges.length_m)
        self._forget(now_s)
        times = travel_times(self._network, self._free_time_s, state, forecast, now_s)
        spare_veh = self._spare_vehicles(state, forecast)
        requests = self._requests(state)
        presumed = {r.vehicle: self._presumed(r) for r in requests}
        waiting = [r for r in requests if self._may_be_advised(r, presumed[r.vehicle], shut, now_s)]
        given: dict[tuple[int, int, tuple[int, ...]], list[_Offer]] = defaultdict(list)
        penalty_s = np.zeros(len(shut))
        turned_away: set[int] = set()
        for _ in range(_ROUNDS):
            refused: list[_Request] = []
            for request, offer in self._offers(waiting, presumed, times, penalty_s, shut, now_s):
                usual = presumed[request.vehicle]
                new_edges = tuple(e for e in offer.route if e not in set(usual))
                if np.isfinite(offer.gain_s) and any(spare_veh[e] < 1.0 for e in new_edges):
                    refused.append(request)
                    continue
                spare_veh[list(new_edges)] -= 1.0
                self._advised[request.vehicle] = _Advised(offer.route, new_edges, now_s)
                turned_away.discard(request.vehicle)
                given[request.edge, request.destination, offer.route].append(offer)
            if not refused:
                break
            turned_away.update(r.vehicle for r in refused)
            waiting = refused
            penalty_s = np.where(spare_veh < 1.0, _FULL_PENALTY_S, 0.0)
        return self._guidance(given, requests, len(turned_away), now_s)

    def _requests(self, state: NetworkState) -> list[_Request]:
        """Equipped cars that asked and can still choose, in the order of the table."""
        table, lanes = state.vehicles, self._network.lanes
        asked = table.equipped & (table.destination_edge >= 0) & (table.lane >= 0)
        asked &= table.kind == VEHICLE_KINDS.index("car")
        requests = []
        for row in np.flatnonzero(asked):
            lane, destination = int(table.lane[row]), int(table.destination_edge[row])
            edge, length_m = int(lanes.edge[lane]), float(lanes.length_m[lane])
            rest_m = max(length_m - float(table.position_m[row]), 0.0)
            if edge != destination and rest_m >= min(self._rules.decide_before_m, length_m / 2):
                requests.append(_Request(int(table.id[row]), edge, destination, rest_m / max(length_m, 1.0)))
        return requests

    def _may_be_advised(self, request: _Request, usual: tuple[int, ...], shut: Bools, now_s: float) -> bool:
        last = self._advised.get(request.vehicle)
        if last is None or now_s - last.at_s >= self._rules.silence_s:
            return True
        return bool(shut[list(usual[1:])].any())

    def _presumed(self, request: _Request) -> tuple[int, ...]:
        """The rest of the last advice while the car is on it, else the usual route; () where there is none."""
        last = self._advised.get(request.vehicle)
        if last is not None and request.edge in last.route and last.route[-1] == request.destination:
            return last.route[last.route.index(request.edge) :]
        following = self._usual_next.get(request.destination)
        if following is None:
            following = self._search_usual(request.destination)
        route = [request.edge]
        while route[-1] != request.destination:
            ahead = int(following[route[-1]])
            if ahead < 0:
                return ()
            route.append(ahead)
        return tuple(route)

    def _search_usual(self, destination: int) -> Ints:
        graph = self._graph
        following = np.empty(len(self._free_time_s), np.int32)
        search_to(
            destination, self._free_time_s, graph.back_offsets, graph.back_sources, graph.back_turn_s,
            self._heap_key, self._heap_node, self._leave_s, following,
        )  # fmt: skip
        self._usual_next[destination] = following
        return following

    def _offers(
        self,
        waiting: list[_Request],
        presumed: dict[int, tuple[int, ...]],
        times: TravelTimes,
        penalty_s: Floats,
        shut: Bools,
        now_s: float,
    ) -> list[tuple[_Request, _Offer]]:
        """Worthwhile better routes: one search an edge serves all cars on it."""
        by_edge: dict[int, list[_Request]] = defaultdict(list)
        for request in waiting:
            by_edge[request.edge].append(request)
        graph, offers = self._graph, []
        wanted = np.zeros(len(shut), np.bool_)
        for edge, here in by_edge.items():
            leave_s = now_s + float(np.mean([r.rest_frac for r in here])) * times.median[0, edge]
            wanted[:] = False
            wanted[[r.destination for r in here]] = True
            search_from(
                edge, leave_s, wanted, times.at_s, times.median, penalty_s, shut, graph.offsets, graph.targets,
                graph.turn_s, self._heap_key, self._heap_node, self._leave_s, self._previous,
            )  # fmt: skip
            compared: dict[tuple[int, tuple[int, ...]], _Offer | None] = {}
            for request in here:
                key = (request.destination, presumed[request.vehicle])
                if key not in compared:
                    compared[key] = self._offer(edge, *key, leave_s, times, shut, now_s)
                offer = compared[key]
                if offer is not None:
                    offers.append((request, offer))
        return sorted(offers, key=lambda pair: (-pair[1].gain_s, pair[0].vehicle))

    def _offer(
        self,
        edge: int,
        destination: int,
        usual: tuple[int, ...],
        leave_s: float,
        times: TravelTimes,
        shut: Bools,
        now_s: float,
    ) -> _Offer | None:
        """The route just searched, when it beats the presumed one by the rules."""
        if not usual or not np.isfinite(self._leave_s[destination]):
            return None
        route = self._route_to(edge, destination)
        if route == usual:
            return None
        usual_s = self._walk(usual, leave_s, times.at_s, times.median, shut) - now_s
        best_s = self._walk(route, leave_s, times.at_s, times.median, shut) - now_s
        gain_s = usual_s - best_s
        if gain_s < max(self._rules.least_gain_s, self._rules.least_gain_frac * min(usual_s, 1e9)):
            return None
        slow_s = self._walk(route, leave_s, times.at_s, times.slow, shut)
        fast_s = self._walk(route, leave_s, times.at_s, times.fast, shut)
        return _Offer(route, best_s, max(slow_s - fast_s, 0.0) / _NORMAL_10_90, gain_s)

    def _route_to(self, edge: int, destination: int) -> tuple[int, ...]:
        route = [destination]
        while route[-1] != edge:
            route.append(int(self._previous[route[-1]]))
        return tuple(reversed(route))

    def _walk(self, route: tuple[int, ...], leave_s: float, at_s: Floats, travel_s: Floats, shut: Bools) -> float:
        graph = self._graph
        edges = np.array(route, np.int32)
        return float(walk(edges, leave_s, at_s, travel_s, shut, graph.offsets, graph.targets, graph.turn_s))

    def _spare_vehicles(self, state: NetworkState, forecast: Forecast | None) -> Floats:
        """Cars that each edge can take more within the share window, less those sent there lately."""
        window_s = self._rules.share_window_s
        if forecast is None:
            known, flow = state.edge_flow_vps.valid, state.edge_flow_vps.value
        else:
            near = forecast.horizon_s <= max(2 * window_s, float(forecast.horizon_s[0]))
            known, flow = (
                forecast.valid,
                forecast.flow_vps[near][:, :, nearest_quantile(forecast.quantiles, 0.5)].mean(axis=0),
            )
        spare_vps = self._rules.usable_capacity_frac * self._graph.capacity_vps - np.where(known, flow, 0.0)
        spare_veh = np.maximum(spare_vps, 0.0) * window_s
        for advised in self._advised.values():
            spare_veh[list(advised.new_edges)] -= 1.0
        return spare_veh

    def _forget(self, now_s: float) -> None:
        """Drop old advice; advice older than the share window no longer counts against spare capacity."""
        for vehicle, advised in list(self._advised.items()):
            age_s = now_s - advised.at_s
            if age_s > self._rules.forget_s or age_s < 0:
                del self._advised[vehicle]
            elif age_s > self._rules.share_window_s and advised.new_edges:
                self._advised[vehicle] = replace(advised, new_edges=())

    def _guidance(
        self,
        given: dict[tuple[int, int, tuple[int, ...]], list[_Offer]],
        requests: list[_Request],
        refused: int,
        now_s: float,
    ) -> Guidance:
        asking: dict[tuple[int, int], int] = defaultdict(int)
        for request in requests:
            asking[request.edge, request.destination] += 1
        keys = sorted(given)
        first = [given[k][0] for k in keys]
        counts = np.array([len(given[k]) for k in keys], np.int32)
        groups = np.array([asking[k[0], k[1]] for k in keys], np.float64)
        return Guidance(
            made_at_s=now_s,
            valid_until_s=now_s + self._rules.valid_s,
            from_edge=np.array([k[0] for k in keys], np.int32),
            destination_edge=np.array([k[1] for k in keys], np.int32),
            routes=tuple(k[2] for k in keys),
            share=counts / np.maximum(groups, 1.0),
            vehicles=counts,
            expected_s=np.array([o.expected_s for o in first]),
            spread_s=np.array([o.spread_s for o in first]),
            gain_s=np.array([o.gain_s for o in first]),
            requests=len(requests),
            refused_full=refused,
        )


def to_order(guidance: Guidance, network: Network) -> GuidanceOrder:
    """The message that vehicles receive. Vehicles are addressed by edge and destination: the twin knows pseudonyms
    only."""
    ids = network.edges.ids
    return GuidanceOrder(
        valid_until=guidance.valid_until_s,
        routes=tuple(
            RouteAdvice(
                vehicle=None,
                from_edge=ids[origin],
                destination=ids[destination],
                route=tuple(ids[e] for e in route),
                share=float(share),
            )
            for origin, destination, route, share in zip(
                guidance.from_edge, guidance.destination_edge, guidance.routes, guidance.share, strict=True
            )
        ),
        speeds=tuple(SpeedAdvice(edge=ids[h.edge], speed_mps=h.speed_mps) for h in guidance.speeds),
    )
