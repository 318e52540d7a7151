"""The mirror's own process: a microscopic SUMO run of the city's prior demand, corrected by what the street reports.

Three corrections, all bounded and logged: signals show what the street's lamps show; scheduled departures are thinned
or copied by what the first sensor on their way counts; vehicles are put on or taken off approaches whose lane counts
say otherwise. Nothing here imports pyarrow or geopandas: their libraries clash with libsumo's.
"""

from __future__ import annotations

import pickle
from collections import defaultdict, deque
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from networks.city import CityFolder
from networks.graph import BICYCLE, PASSENGER, PEDESTRIAN, Bools, Floats, Network
from scenarios.passages import Passages, Ride
from scenarios.simulation import SNAPSHOT_OPTIONS, RunSpec, Simulation, guard
from twin.mirror_demand import DemandCorrection
from twin.mirror_lamps import LampFollower
from twin.mirror_lanes import BODY_M, LaneCorrection, LaneTraffic, free_place, rearmost_surplus, sort_by_lane
from twin.mirror_words import Change, MirrorEstimate, Observation, Snapshot

FLOW_WINDOW_S, SPEED_WINDOW_S = 300.0, 60.0
SNAPSHOT_EVERY_S = 60.0
LOAD_AHEAD_S = 5  # of departures: a factor acts on what is not loaded yet
MOST_COPIES = 3
JAMMED = 0.8  # share of an edge's room taken, from which its arrivals say nothing about demand
SMALLEST_ROOM_VEH = 4.0
CORRECTABLE = frozenset({"passenger", "private", "taxi", "truck", "delivery", "evehicle", "trailer", "custom1"})
CARS = frozenset({"passenger", "private", "taxi", "evehicle"})  # what is put on the road by hand
ROUTES_KEPT = 24  # recent routes through an edge, for vehicles put on it


@dataclass(frozen=True, slots=True)
class MirrorSpec:
    """Everything the process needs to start."""

    city: CityFolder
    network: Network
    seed: int
    folder: Path  # for snapshots
    life: int  # counts restarts, so that ids of added vehicles never meet
    correct: bool  # False: a free run of the prior demand that only follows the lamps
    snapshot: Snapshot | None


class Tally(NamedTuple):
    """Counters that survive a restart with the snapshot they were saved with."""

    departed: int = 0
    arrived: int = 0
    inserted: int = 0
    removed: int = 0
    copied: int = 0
    thinned: int = 0
    teleports: int = 0


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


class _Traffic(Passages):
    """Passages that tell which vehicles meet their first sensor where."""

    def __init__(self, sumo: Any, network: Network) -> None:
        super().__init__(sumo, network)
        edges = len(network.edges.ids)
        self.measured: Bools = np.zeros(edges, np.bool_)
        self.scheduled, self.passing = np.zeros(edges), np.zeros(edges)
        self.weight: dict[str, float] = {}  # scheduled vehicles that a vehicle stands for until its first sensor
        self.born: dict[str, int] = {}  # edge that a vehicle was put on by hand

    def enter(self, vehicle: str, edge: int) -> None:
        """Count the vehicle at the edge's sensor, as scheduled or as passing; not where it was put by hand."""
        if self.measured[edge] and self.born.get(vehicle) != edge:
            weight = self.weight.pop(vehicle, None)
            if weight is None:
                self.passing[edge] += 1.0
            else:
                self.scheduled[edge] += weight

    def first_sensor(self, route: tuple[int, ...]) -> int:
        """The first measured edge of a route, -1 for none."""
        return next((edge for edge in route if self.measured[edge]), -1)

    def forget(self, vehicle: str) -> None:
        self.weight.pop(vehicle, None)
        self.born.pop(vehicle, None)


def serve(connection: Connection) -> None:
    """Body of the process: take a MirrorSpec, answer every Observation with (MirrorEstimate, Snapshot | None)."""
    guard(connection, lambda: _serve(connection))


def _serve(connection: Connection) -> None:
    spec: MirrorSpec = connection.recv()
    city = spec.city
    run = RunSpec(
        network=city.network,
        routes=city.routes,
        additional=city.additional + city.programmes,
        begin_s=city.begin_s,
        seed=spec.seed,
        load_state=Path(spec.snapshot.file) if spec.snapshot else None,
        extra=(*SNAPSHOT_OPTIONS, "--route-steps", str(LOAD_AHEAD_S)),
    )
    with Simulation(run) as simulation:
        follower = Follower(spec, simulation)
        while True:
            connection.send(("done", follower.follow(connection.recv())))


class Follower:
    """The running mirror inside its process."""

    def __init__(self, spec: MirrorSpec, simulation: Simulation) -> None:
        self._spec, self._network, self._run = spec, spec.network, simulation
        self._sumo = simulation.sumo
        edges, table = len(self._network.edges.ids), self._network.lanes
        self._motor = (table.allowed & ~(PEDESTRIAN | BICYCLE)) != 0
        self._for_cars = (table.allowed & PASSENGER) != 0
        self._traffic = _Traffic(self._sumo, self._network)
        self._demand = DemandCorrection.for_edges(edges)
        self._lanes = LaneCorrection(self._network)
        self._lamps = LampFollower(self._sumo, self._network)
        self._tally = Tally()
        self._changes: list[Change] = []
        self._routes: dict[int, deque[tuple[tuple[int, ...], str]]] = defaultdict(lambda: deque(maxlen=ROUTES_KEPT))
        self._own_routes: dict[tuple[int, ...], str] = {}
        self._placing: dict[str, int] = {}  # vehicles asked to appear on an edge in the next step
        self._placed = np.zeros(edges)
        self._evidence_s = np.full(edges, -np.inf)
        self._windows: deque[Window] = deque()
        self._next_snapshot_s = simulation.now_s + SNAPSHOT_EVERY_S
        self._added = 0
        capacity = np.bincount(table.edge, np.where(self._motor, table.length_m, 0.0), minlength=edges) / BODY_M
        self._room = np.maximum(capacity, SMALLEST_ROOM_VEH)
        if spec.snapshot is not None:
            self._recall(spec.snapshot)
        else:
            self._admit(self._sumo.simulation.getLoadedIDList())

    def follow(self, seen: Observation) -> tuple[MirrorEstimate, Snapshot | None]:
        """Step to the observation's time under its lamps, correct, and tell."""
        begin_s = self._run.now_s
        self._changes = []
        self._note_evidence(seen)
        self._lamps.plan(seen.lamps, begin_s, seen.until_s)
        while self._run.now_s < seen.until_s - 1e-6:
            self._lamps.show(self._run.now_s)
            self._step()
        span_s = self._run.now_s - begin_s
        self._traffic.look()
        lanes = self._scan()
        if span_s <= 0:
            return self._estimate(lanes), None
        self._remember(seen, span_s, lanes)
        if self._spec.correct:
            self._learn_demand(seen, span_s)
        snapshot = self._snapshot()  # before vehicles wait to be put on the road
        if self._spec.correct:
            self._correct_lanes(seen, lanes)
        return self._estimate(lanes), snapshot

    def _step(self) -> None:
        self._run.step()
        departed = self._traffic.note_step()
        simulation = self._sumo.simulation
        self._tally = self._tally._replace(
            departed=self._tally.departed + len(departed),
            arrived=self._tally.arrived + int(self._traffic.arrived.sum()),
            teleports=self._tally.teleports + simulation.getStartingTeleportNumber(),
        )
        self._traffic.arrived[:] = 0.0
        for vehicle in simulation.getArrivedIDList():
            self._traffic.forget(vehicle)
        for vehicle in departed:
            ride = self._traffic.rides[vehicle]
            if vehicle not in self._traffic.born:
                self._keep_route(vehicle, ride)
        self._settle_placed()
        self._admit(simulation.getLoadedIDList())

    def _keep_route(self, vehicle: str, ride: Ride) -> None:
        if ride.kind in CARS:
            kept = ride.route, self._sumo.vehicle.getTypeID(vehicle)
            for edge in ride.route:
                self._routes[edge].append(kept)

    def _admit(self, loaded: tuple[str, ...]) -> None:
        """Decide how many vehicles depart for each one just scheduled."""
        vehicle_of, traffic = self._sumo.vehicle, self._traffic
        for vehicle in loaded:
            if vehicle in traffic.born or vehicle in traffic.weight:
                continue  # made by us
            traffic.weight[vehicle] = 1.0
            kind = vehicle_of.getVehicleClass(vehicle)
            if not self._spec.correct or kind not in CORRECTABLE or vehicle_of.getStops(vehicle, 1):
                continue
            route = self._way(vehicle)
            if not route:
                continue
            sensor = traffic.first_sensor(route)
            under_way = vehicle in traffic.rides
            count = self._demand.copies(sensor, (1 if under_way else 0, MOST_COPIES))
            factor = self._demand.factor_of(sensor)
            traffic.weight[vehicle] = 1.0 / factor
            if count == 0:
                vehicle_of.remove(vehicle)
                traffic.forget(vehicle)
                self._log("thin", vehicle, route[0])
            for _ in range(count - 1):
                copy = self._name()
                traffic.weight[copy] = 1.0 / factor
                vehicle_of.add(
                    copy,
                    self._route_named(route),
                    typeID=vehicle_of.getTypeID(vehicle),
                    depart=str(self._run.now_s + 1 + self._added % LOAD_AHEAD_S),
                    departLane="best",
                    departPos="base",
                    departSpeed="max",
                )
                self._log("copy", copy, route[0])

    def _learn_demand(self, seen: Observation, span_s: float) -> None:
        """Arrivals at every measured edge over the flow window: measured, scheduled, passing.

        What the street's arrivals differ by from the mirror's follows from what left and what was stored; in the
        difference everything cancels that both count alike, such as vehicles inside junctions.
        """
        windows = self._windows
        first, last = windows[0], windows[-1]
        window_s = sum(w.span_s for w in windows)
        zero = np.zeros(len(self._room))
        scheduled, passing = sum((w.scheduled for w in windows), zero), sum((w.passing for w in windows), zero)
        left, placed = sum((w.left for w in windows), zero), sum((w.placed for w in windows), zero)
        stored = np.nan_to_num(
            (last.stored - first.stored) - (last.mirrored - first.mirrored) + placed - first.placed
        )
        more_left = np.nan_to_num(seen.edge_flow_vps) * window_s - left
        measured = np.maximum(0.0, scheduled + passing + more_left + stored)
        fullest = np.maximum(last.mirrored, np.nan_to_num(last.stored))
        use = (fullest < JAMMED * self._room) & np.isfinite(seen.edge_flow_vps)
        self._demand.learn(scheduled / window_s, passing / window_s, measured / window_s, use, span_s)

    def _correct_lanes(self, seen: Observation, lanes: LaneTraffic) -> None:
        wanted = self._lanes.wanted(seen.lane_vehicles, seen.lane_vehicles_sd, lanes)
        removable = np.array([self._traffic.rides[v].kind in CORRECTABLE for v in lanes.ids], np.bool_)
        short = np.nan_to_num(seen.lane_vehicles - lanes.vehicles)
        for edge in np.flatnonzero(wanted).tolist():
            members = np.arange(self._network.edges.first_lane[edge], self._network.edges.first_lane[edge + 1])
            members = members[self._for_cars[members]]
            for _ in range(int(abs(wanted[edge]))):
                if wanted[edge] > 0:
                    done = self._insert(edge, members[np.argsort(-short[members], kind="stable")], seen, lanes)
                    short[done] -= done >= 0
                else:
                    done = self._remove(
                        edge, members[np.argsort(short[members], kind="stable")], seen, lanes, removable
                    )
                    short[done] += done >= 0
                if done < 0:
                    break
                self._lanes.done(edge, 1 if wanted[edge] > 0 else -1)
                if wanted[edge] > 0:
                    break  # one insertion an edge and step: the scan does not know the new vehicle yet

    def _remove(self, edge: int, members: Any, seen: Observation, lanes: LaneTraffic, removable: Bools) -> int:
        """Take one vehicle off the fullest of the lanes that lets one go; its lane, or -1."""
        for lane in members.tolist():
            row = rearmost_surplus(lanes, lane, removable, float(seen.lane_queue_veh[lane]))
            if row < 0:
                continue
            vehicle = lanes.ids[row]
            removable[row] = False
            self._sumo.vehicle.remove(vehicle)
            self._traffic.rides.pop(vehicle)
            self._traffic.forget(vehicle)
            lanes.vehicles[lane] -= 1
            lanes.queue[lane] -= lanes.speed_mps[row] < 2.0
            self._log("remove", vehicle, edge)
            return int(lane)
        return -1

    def _insert(self, edge: int, members: Any, seen: Observation, lanes: LaneTraffic) -> int:
        """Ask SUMO to put one vehicle on the emptiest lane with room and a route; its lane, or -1."""
        table = self._network.lanes
        for lane in members.tolist():
            queued = bool(seen.lane_queue_veh[lane] > lanes.queue[lane] + 1.0)
            length_m, limit_mps = float(table.length_m[lane]), float(table.speed_limit_mps[lane])
            place_m = free_place(lanes, lane, length_m, limit_mps, queued=queued)
            found = self._route_from(edge, lane)
            if found is None or np.isnan(place_m):
                continue
            vehicle = self._name()
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
                return self._route_named(rest), kind
        return None

    def _way(self, vehicle: str) -> tuple[int, ...]:
        """The edges a scheduled vehicle will drive; for a trip, which SUMO routes on departure, those known now."""
        route = self._traffic.route_of(vehicle)
        if len(route) != 2 or route[1] in self._network.edge_successors[route[0]]:
            return route
        ids, index = self._network.edges.ids, self._network.edge_index
        stage = self._sumo.simulation.findRoute(ids[route[0]], ids[route[1]], self._sumo.vehicle.getTypeID(vehicle))
        return tuple(index[e] for e in stage.edges if e in index) or route

    def _route_named(self, edges: tuple[int, ...]) -> str:
        """A route of our own: SUMO's for single vehicles and flows vanish with them, and with them the run."""
        name = self._own_routes.get(edges)
        if name is None:
            name = self._own_routes[edges] = f"mirror_{self._spec.life}_route_{len(self._own_routes)}"
            self._sumo.route.add(name, [self._network.edges.ids[e] for e in edges])
        return name

    def _settle_placed(self) -> None:
        """After the step: vehicles that SUMO did not find room for are taken back, the others are logged."""
        for vehicle, edge in self._placing.items():
            if vehicle in self._traffic.rides:
                self._log("insert", vehicle, edge)
            else:
                self._sumo.vehicle.remove(vehicle)
                self._traffic.forget(vehicle)
        self._placing = {}

    def _note_evidence(self, seen: Observation) -> None:
        self._evidence_s[np.isfinite(seen.edge_flow_vps)] = seen.until_s
        self._traffic.measured = self._evidence_s > seen.until_s - FLOW_WINDOW_S

    def _scan(self) -> LaneTraffic:
        vehicle, index = self._sumo.vehicle, self._network.lane_index
        ids = list(self._traffic.rides)
        return sort_by_lane(
            ids,
            [index.get(vehicle.getLaneID(v), -1) for v in ids],
            [vehicle.getLanePosition(v) for v in ids],
            [vehicle.getSpeed(v) for v in ids],
            len(self._network.lanes.ids),
        )

    def _remember(self, seen: Observation, span_s: float, lanes: LaneTraffic) -> None:
        edge, edges, traffic = self._network.lanes.edge, len(self._room), self._traffic
        edge_of = np.repeat(edge, np.diff(lanes.first))
        window = Window(
            at_s=self._run.now_s,
            span_s=span_s,
            left=traffic.take()[0],
            speed_sum=np.bincount(edge_of, lanes.speed_mps, minlength=edges).astype(np.float64),
            samples=np.bincount(edge_of, minlength=edges).astype(np.float64),
            scheduled=traffic.scheduled.copy(),
            passing=traffic.passing.copy(),
            placed=self._placed,
            mirrored=np.bincount(edge, lanes.vehicles, minlength=edges).astype(np.float64),
            stored=np.bincount(edge, np.where(self._motor, seen.lane_vehicles, 0.0), minlength=edges).astype(
                np.float64
            ),
        )
        traffic.scheduled[:], traffic.passing[:] = 0.0, 0.0
        self._placed = np.zeros(edges)
        self._windows.append(window)
        while self._windows[0].at_s <= self._run.now_s - FLOW_WINDOW_S:
            self._windows.popleft()

    def _estimate(self, lanes: LaneTraffic) -> MirrorEstimate:
        network, now_s, zero = self._network, self._run.now_s, np.zeros(len(self._room))
        recent = [w for w in self._windows if w.at_s > now_s - SPEED_WINDOW_S]
        span_s = sum(w.span_s for w in self._windows)
        left = sum((w.left for w in self._windows), zero)
        speed, samples = sum((w.speed_sum for w in recent), zero), sum((w.samples for w in recent), zero)
        mirrored = np.bincount(network.lanes.edge, lanes.vehicles, minlength=len(zero))
        return MirrorEstimate(
            now_s=now_s - self._spec.city.begin_s + self._spec.city.epoch_s,
            edge_flow_vps=left / max(span_s, 1.0),
            edge_speed_mps=np.where(samples > 0, speed / np.maximum(samples, 1.0), network.edges.speed_limit_mps),
            edge_samples=samples,
            edge_density_vpm=mirrored / network.edges.length_m,
            lane_queue_veh=lanes.queue,
            lane_vehicles=lanes.vehicles,
            demand_factor=self._demand.factor,
            backlog_veh=len(self._sumo.simulation.getPendingVehicles()),
            running=len(self._traffic.rides),
            changes=tuple(self._changes),
            lamps=tuple(self._sumo.trafficlight.getRedYellowGreenState(s.id) for s in network.signals),
            **self._tally._asdict(),
        )

    def _log(self, action: str, vehicle: str, edge: int) -> None:
        self._changes.append(Change(self._run.now_s, action, vehicle, edge))
        if action in ("insert", "remove"):
            self._placed[edge] += 1.0 if action == "insert" else -1.0
        counter = {"insert": "inserted", "remove": "removed", "copy": "copied", "thin": "thinned"}[action]
        self._tally = self._tally._replace(**{counter: getattr(self._tally, counter) + 1})

    def _name(self) -> str:
        self._added += 1
        return f"mirror_{self._spec.life}_{self._added}"

    def _snapshot(self) -> Snapshot | None:
        now_s = self._run.now_s
        if now_s < self._next_snapshot_s:
            return None
        self._next_snapshot_s = now_s + SNAPSHOT_EVERY_S
        path = self._spec.folder / f"mirror_{self._spec.life}_{now_s:.0f}.xml.gz"
        self._run.save(path)
        memory = self._tally, self._demand, self._traffic.weight, self._traffic.born, self._evidence_s
        return Snapshot(now_s, str(path), pickle.dumps((memory, list(self._windows))))

    def _recall(self, snapshot: Snapshot) -> None:
        memory, windows = pickle.loads(snapshot.memory)
        self._tally, self._demand, self._traffic.weight, self._traffic.born, self._evidence_s = memory
        self._windows.extend(windows)
        self._traffic.adopt_running()
        for vehicle, ride in self._traffic.rides.items():
            self._keep_route(vehicle, ride)
