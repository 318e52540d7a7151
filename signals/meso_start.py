"""The mesoscopic model from what is known now: vehicles where they stand, lamps in mid-stage, arrivals to come."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np

from networks.graph import Bools, Floats, Ints, Network
from networks.state import Forecast, NetworkState
from signals.meso import MesoModel, MesoStart, build_meso
from signals.meso_build import new_state
from signals.meso_demand import car_demand
from signals.meso_kernels import State

MEDIAN = 0.5
LONGEST_WAY = 60  # edges of a drawn route


def model_ahead(
    network: Network,
    state: NetworkState,
    forecast: Forecast | None,
    *,
    clock_s: float,
    span_s: float,
    walkers_vph: Floats | None = None,
    seed: int = 0,
) -> tuple[MesoModel, MesoStart]:
    """A model of the next `span_s` seconds and the start of its runs; programmes read `clock_s` now.

    Vehicles that the state believes in stand on their lanes, an uncertain one for its share: along a lane as many are
    kept as are expected. Who finds its lane full waits to enter. Arrivals at edges that nothing leads into follow the
    median of the forecast, evenly; where there is none, the flow of now. All drive as cars on routes drawn by the
    turning shares of now, beginning with the movement a vehicle is known to take. Delays count from now.
    Raises ShapeError when the state does not fit the network.
    """
    rng = np.random.default_rng(seed)
    ways = _Ways(network, state, rng)
    rows = _believed(state)
    vehicles = state.vehicles
    routes = [ways.from_lane(int(vehicles.lane[v]), int(vehicles.movement[v])) for v in rows]
    depart_s, entries = _arrivals(network, state, forecast, span_s, rng)
    routes += [ways.from_edge(int(e)) for e in entries]
    demand = car_demand(clock_s + np.concatenate([np.zeros(len(rows)), depart_s]), routes)
    model = build_meso(network, demand, begin_s=clock_s, end_s=clock_s + span_s, walkers_vph=walkers_vph)
    return place(model, vehicles.lane[rows], vehicles.position_m[rows], vehicles.speed_mps[rows], seed=seed)


def place(
    model: MesoModel, lane: Ints, position_m: Floats, speed_mps: Floats, *, seed: int = 0
) -> tuple[MesoModel, MesoStart]:
    """The first P vehicles of the demand on the streets at the begin, each on a lane (P,) of its route's first edge.

    A vehicle on a lane from which its route cannot go on takes the nearest that leads there. Who finds no room waits
    to enter, before all that are due later: the model that comes back knows that, so run that one.
    """
    traffic, factors = model.traffic, model.factors(seed)
    state = new_state(model.network, model.streets, traffic)
    state.vehicle["factor"] = factors
    state.edge["moving_frac"], state.edge["time_s"] = 1.0, state.edge["free_s"]
    placed = np.zeros(len(traffic.vehicle), np.bool_)
    for v in np.lexsort((-position_m, lane)).tolist():
        step = traffic.step[traffic.way_step[traffic.way_first[v]]]
        options = traffic.choice[step["choice"] : step["choice"] + step["choices"]]
        chosen = options[np.argmin(np.abs(options["lane"] - lane[v]))]
        driver = traffic.driver[traffic.vehicle[v]["driver"]]
        row = state.lane[chosen["lane"]]
        if row["used_m"] > 0.0 and row["used_m"] + driver["space_m"] > row["room_m"]:
            continue
        placed[v] = True
        desired_mps = min(row["limit_mps"] * factors[v], driver["top_mps"])
        way_m = max(row["length_m"] - position_m[v], 0.0)
        arrives_s, end_mps = _drive(way_m, min(speed_mps[v], desired_mps), desired_mps, driver["accel_mps2"])
        vehicle = state.vehicle[v]
        vehicle["arrives_s"], vehicle["ideal_s"], vehicle["speed_mps"] = arrives_s, way_m / desired_mps, end_mps
        vehicle["step"], vehicle["move"] = traffic.way_step[traffic.way_first[v]], chosen["move"]
        seat = state.ring[row["ring"] + (row["tail"] & row["mask"])]
        seat["vehicle"], seat["space_m"] = v, driver["space_m"]
        row["tail"] += 1
        row["used_m"] += driver["space_m"]
        row["wake_s"] = 0.0
    order = _entered_first(model, state, placed)
    start = MesoStart(model.begin_s, state.vehicle, state.lane, state.ring, state.move, state.edge)
    return replace(model, traffic=traffic._replace(source_vehicle=order)), start


def _entered_first(model: MesoModel, state: State, placed: Bools) -> Ints:
    """Sources with the vehicles on the streets before the others, and so many of them let in."""
    traffic, first_source = model.traffic, model.streets.streets + model.streets.boxes
    order = traffic.source_vehicle.copy()
    for source in range(len(traffic.source_lane)):
        due = slice(traffic.source_first[source], traffic.source_first[source + 1])
        order[due] = order[due][np.argsort(~placed[order[due]], kind="stable")]
        state.lane["head"][first_source + source] = placed[order[due]].sum()
    return order


def _drive(way_m: float, from_mps: float, to_mps: float, accel_mps2: float) -> tuple[float, float]:
    """Time for a way when speeding up from one speed to another, and the speed at its end."""
    reach_m = (to_mps**2 - from_mps**2) / (2.0 * accel_mps2)
    if reach_m < way_m:
        return (to_mps - from_mps) / accel_mps2 + (way_m - reach_m) / to_mps, to_mps
    end_mps = float(np.sqrt(from_mps**2 + 2.0 * accel_mps2 * way_m))
    return (end_mps - from_mps) / accel_mps2, end_mps


def _believed(state: NetworkState) -> Ints:
    """Rows of the vehicles to drive: of each lane as many as are expected there, spread along it by certainty."""
    vehicles = state.vehicles
    order = np.lexsort((-vehicles.position_m, vehicles.lane))
    expected = np.cumsum(vehicles.certainty[order])
    first = np.searchsorted(vehicles.lane[order], vehicles.lane[order])
    before = np.concatenate([[0.0], expected])[first]
    reached = np.floor(expected - before + 0.5 + 1e-9)
    earlier = np.floor(expected - vehicles.certainty[order] - before + 0.5 + 1e-9)
    rows: Ints = order[reached > earlier].astype(np.int32)
    return rows


def _arrivals(
    network: Network, state: NetworkState, forecast: Forecast | None, span_s: float, rng: np.random.Generator
) -> tuple[Floats, Ints]:
    """Departures in s from now, and their edges: those that nothing leads into."""
    led_to = np.zeros(len(network.edges.ids), np.bool_)
    led_to[network.lanes.edge[network.movements.to_lane]] = True
    flow_now = state.edge_flow_vps
    depart_s: list[Floats] = [np.zeros(0)]
    edges: list[Ints] = [np.zeros(0, np.int32)]
    for e in np.flatnonzero(~led_to):
        until_s, flow_vps = np.array([span_s]), np.array([flow_now.value[e] if flow_now.valid[e] else 0.0])
        if forecast is not None and forecast.valid[e]:
            ahead_s = forecast.made_at_s + forecast.horizon_s - state.now_s
            later = ahead_s > 0.0
            median = int(np.argmin(np.abs(np.array(forecast.quantiles) - MEDIAN)))
            until_s, flow_vps = ahead_s[later], forecast.flow_vps[later, e, median]
        until_s = np.concatenate([[0.0], np.minimum(until_s, span_s)])
        count = np.concatenate([[0.0], np.cumsum(np.maximum(flow_vps, 0.0) * np.diff(until_s))])
        due = np.arange(rng.random(), count[-1])
        depart_s.append(np.interp(due, count, until_s))
        edges.append(np.full(len(due), e, np.int32))
    return np.concatenate(depart_s), np.concatenate(edges)


class _Ways:
    """Routes drawn by turning shares, edge by edge."""

    def __init__(self, network: Network, state: NetworkState, rng: np.random.Generator) -> None:
        moves, lanes = network.movements, network.lanes
        share = np.where(state.movement_share.valid, state.movement_share.value, 0.0)
        self._share = np.maximum(share * np.maximum(state.lane_vehicles.value[moves.from_lane], 0.1), 1e-6)
        self._edge, self._rng = lanes.edge, rng
        self._to = lanes.edge[moves.to_lane]
        order = np.argsort(lanes.edge[moves.from_lane], kind="stable").astype(np.int32)
        bounds = np.searchsorted(lanes.edge[moves.from_lane][order], np.arange(len(network.edges.ids) + 1))
        self._of_edge = [order[a:b] for a, b in itertools.pairwise(bounds)]
        self._of_lane = network.lane_movements

    def from_lane(self, lane: int, movement: int) -> list[int]:
        """From the edge of a lane, by the movement where it is known."""
        edge = int(self._edge[lane])
        leaving = self._of_lane[lane].astype(np.int32)
        if movement < 0 and len(leaving):
            movement = self._draw(leaving)
        return [edge] if movement < 0 else self._go_on([edge, int(self._to[movement])])

    def from_edge(self, edge: int) -> list[int]:
        return self._go_on([edge])

    def _go_on(self, way: list[int]) -> list[int]:
        while len(way) < LONGEST_WAY and len(leaving := self._of_edge[way[-1]]):
            way.append(int(self._to[self._draw(leaving)]))
        return way

    def _draw(self, movements: Ints) -> int:
        share = self._share[movements]
        return int(self._rng.choice(movements, p=share / share.sum()))
