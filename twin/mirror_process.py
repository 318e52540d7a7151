"""The mirror's own process: a microscopic SUMO run of the city's prior demand, corrected by what the street reports.

Three corrections, all bounded and logged: signals show what the street's lamps show; scheduled departures are thinned
or copied by what the first sensor on their way counts; vehicles are put on or taken off approaches whose lane counts
say otherwise. Nothing here imports pyarrow or geopandas: their libraries clash with libsumo's.
"""

from __future__ import annotations

import pickle
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from networks.city import CityFolder
from networks.graph import VEHICLE_SPACE_M, Floats, Network
from scenarios.simulation import SNAPSHOT_OPTIONS, RunSpec, Simulation, guard
from scenarios.street_works import Works
from twin.mirror_demand import DemandCorrection
from twin.mirror_hand import CORRECTABLE, Hand
from twin.mirror_lamps import LampFollower
from twin.mirror_lanes import LaneTraffic
from twin.mirror_traffic import Account, Traffic, Window
from twin.mirror_words import MirrorEstimate, Observation, Snapshot

WINDOW_S = 300.0  # of flows and speeds
SNAPSHOT_EVERY_S = 60.0
LOAD_AHEAD_S = 5  # of departures: a factor acts on what is not loaded yet
DEPARTURE_OPTIONS = ("--route-steps", str(LOAD_AHEAD_S))
MOST_COPIES = 3
JAMMED = 0.8  # share of an edge's room taken, from which its arrivals say nothing about demand
SMALLEST_ROOM_VEH = 4.0


@dataclass(frozen=True, slots=True)
class MirrorSpec:
    """Everything the process needs to start."""

    city: CityFolder
    network: Network
    seed: int
    folder: Path  # for snapshots and temporary files; whoever starts the process removes it
    life: int  # counts restarts, so that ids of added vehicles never meet
    correct: bool  # False: a free run of the prior demand that only follows the lamps
    snapshot: Snapshot | None


def begun_run(
    city: CityFolder, seed: int, scratch: Path, *, words: Sequence[Path] = (), options: Sequence[str] = ()
) -> RunSpec:
    """The city's own demand from its begin under its own signals, to be saved. `words`: further additional files."""
    return RunSpec(
        network=city.network,
        routes=city.routes,
        additional=(*city.additions, *words),
        begin_s=city.begin_s,
        seed=seed,
        extra=(*SNAPSHOT_OPTIONS, *options),
        scratch=scratch,
    )


def restored_run(
    city: CityFolder, snapshot: Snapshot, seed: int, scratch: Path, *, words: Sequence[Path] = ()
) -> RunSpec:
    """The run that was saved, going on; with its parent's options, for they decide whose dice fall when."""
    options = DEPARTURE_OPTIONS if snapshot.memory else ()
    begun = begun_run(city, seed, scratch, words=words, options=options)
    return replace(begun, load_state=Path(snapshot.file))


def serve(connection: Connection) -> None:
    """Body of the process: take a MirrorSpec, answer every Observation with (MirrorEstimate, Snapshot | None)."""
    guard(connection, lambda: _serve(connection))


def _serve(connection: Connection) -> None:
    spec: MirrorSpec = connection.recv()
    if spec.snapshot is not None:
        run = restored_run(spec.city, spec.snapshot, spec.seed, spec.folder)
    else:
        run = begun_run(spec.city, spec.seed, spec.folder, options=DEPARTURE_OPTIONS)
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
        self._motor = table.motor
        self._traffic = Traffic(self._sumo, self._network)
        self._demand = DemandCorrection.for_edges(edges)
        self._lamps = LampFollower(self._sumo, self._network)
        self._works = Works(self._sumo, self._network, ())
        self._account = Account(spec.life, edges)
        self._hand = Hand(self._sumo, self._network, self._traffic, self._account)
        self._evidence_s = np.full(edges, -np.inf)
        self._windows: deque[Window] = deque()
        self._next_snapshot_s = simulation.now_s + SNAPSHOT_EVERY_S
        motor_m = np.bincount(table.edge, np.where(self._motor, table.length_m, 0.0), minlength=edges)
        self._room = np.maximum(motor_m / VEHICLE_SPACE_M, SMALLEST_ROOM_VEH)
        if spec.snapshot is not None:
            self._recall(spec.snapshot)
        else:
            self._admit(self._sumo.simulation.getLoadedIDList())

    def follow(self, seen: Observation) -> tuple[MirrorEstimate, Snapshot | None]:
        """Step to the observation's time under its lamps, correct, and tell."""
        begin_s = self._run.now_s
        self._account.changes = []
        self._note_evidence(seen)
        self._works.announce(seen.notices)
        self._lamps.plan(seen.lamps, begin_s, seen.until_s)
        while self._run.now_s < seen.until_s - 1e-6:
            self._lamps.show(self._run.now_s)
            self._works.apply(self._run.now_s, list(self._traffic.rides))
            self.step()
        span_s = self._run.now_s - begin_s
        lanes = self._traffic.scan()
        if span_s <= 0:
            return self._estimate(lanes), None
        self._remember(seen, span_s, lanes)
        if self._spec.correct:
            self._learn_demand(seen, span_s)
        snapshot = self._snapshot()  # before vehicles wait to be put on the road
        if self._spec.correct:
            self._hand.correct(seen, lanes)
        return self._estimate(lanes), snapshot

    def step(self) -> None:
        """One simulated second: departures are thinned or copied as learnt so far; nothing else is corrected."""
        self._run.step()
        departed = self._traffic.note_step()
        simulation = self._sumo.simulation
        self._account.tally = self._account.tally._replace(
            departed=self._account.tally.departed + len(departed),
            arrived=self._account.tally.arrived + int(self._traffic.arrived.sum()),
            teleports=self._account.tally.teleports + simulation.getStartingTeleportNumber(),
        )
        self._traffic.arrived[:] = 0.0
        for vehicle in simulation.getArrivedIDList():
            self._traffic.forget(vehicle)
        for vehicle in departed:
            ride = self._traffic.rides[vehicle]
            if self._works.closed:
                self._works.avoid(vehicle)
            if vehicle not in self._traffic.born:
                self._hand.keep_route(vehicle, ride)
        self._hand.settle()
        self._admit(simulation.getLoadedIDList())

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
                self._account.log(self._run.now_s, "thin", vehicle, route[0])
            for _ in range(count - 1):
                copy = self._account.name()
                traffic.weight[copy] = 1.0 / factor
                vehicle_of.add(
                    copy,
                    self._hand.route_named(route),
                    typeID=vehicle_of.getTypeID(vehicle),
                    depart=str(self._run.now_s + 1 + self._account.added % LOAD_AHEAD_S),
                    departLane="best",
                    departPos="base",
                    departSpeed="max",
                )
                self._account.log(self._run.now_s, "copy", copy, route[0])

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

    def _way(self, vehicle: str) -> tuple[int, ...]:
        """The edges a scheduled vehicle will drive; for a trip, which SUMO routes on departure, those known now."""
        route = self._traffic.route_of(vehicle)
        if len(route) != 2 or route[1] in self._network.edge_successors[route[0]]:
            return route
        ids, index = self._network.edges.ids, self._network.edge_index
        stage = self._sumo.simulation.findRoute(ids[route[0]], ids[route[1]], self._sumo.vehicle.getTypeID(vehicle))
        return tuple(index[e] for e in stage.edges if e in index) or route

    def _note_evidence(self, seen: Observation) -> None:
        self._evidence_s[np.isfinite(seen.edge_flow_vps)] = seen.until_s
        self._traffic.measured = self._evidence_s > seen.until_s - WINDOW_S

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
            placed=self._account.placed,
            turned=traffic.turned.copy(),
            mirrored=np.bincount(edge, lanes.vehicles, minlength=edges).astype(np.float64),
            stored=np.bincount(edge, np.where(self._motor, seen.lane_vehicles, 0.0), minlength=edges).astype(
                np.float64
            ),
        )
        traffic.scheduled[:], traffic.passing[:], traffic.turned[:] = 0.0, 0.0, 0.0
        self._account.placed = np.zeros(edges)
        self._windows.append(window)
        while self._windows[0].at_s <= self._run.now_s - WINDOW_S:
            self._windows.popleft()

    def _estimate(self, lanes: LaneTraffic) -> MirrorEstimate:
        network, now_s, zero = self._network, self._run.now_s, np.zeros(len(self._room))
        span_s = sum(w.span_s for w in self._windows)
        left = sum((w.left for w in self._windows), zero)
        speed, samples = (
            sum((w.speed_sum * w.span_s for w in self._windows), zero),
            sum((w.samples * w.span_s for w in self._windows), zero),
        )
        mirrored = np.bincount(network.lanes.edge, lanes.vehicles, minlength=len(zero))
        return MirrorEstimate(
            now_s=now_s - self._spec.city.begin_s + self._spec.city.epoch_s,
            edge_flow_vps=left / max(span_s, 1.0),
            edge_speed_mps=np.where(samples > 0, speed / np.maximum(samples, 1.0), network.edges.speed_limit_mps),
            edge_samples=samples,
            movement_vps=self._turned() / max(span_s, 1.0),
            edge_density_vpm=mirrored / network.edges.length_m,
            lane_queue_veh=lanes.queue,
            lane_vehicles=lanes.vehicles,
            demand_factor=self._demand.factor,
            backlog_veh=len(self._sumo.simulation.getPendingVehicles()),
            running=len(self._traffic.rides),
            changes=tuple(self._account.changes),
            lamps=tuple(self._sumo.trafficlight.getRedYellowGreenState(s.id) for s in network.signals),
            **self._account.tally._asdict(),
        )

    def _turned(self) -> Floats:
        """Vehicles of all windows by movement (M,); movements between the same edges get equal parts of theirs."""
        turn = self._traffic.turn_of_movement
        total = sum((w.turned for w in self._windows), np.zeros(len(self._traffic.turned)))
        parts = np.bincount(turn, minlength=len(total))
        return (total / np.maximum(parts, 1))[turn]

    def _snapshot(self) -> Snapshot | None:
        now_s = self._run.now_s
        if now_s < self._next_snapshot_s:
            return None
        self._next_snapshot_s = now_s + SNAPSHOT_EVERY_S
        path = self._spec.folder / f"mirror_{self._spec.life}_{now_s:.0f}.xml.gz"
        self._run.save(path)
        memory = self._account.tally, self._demand, self._traffic.weight, self._traffic.born, self._evidence_s
        packed = pickle.dumps((memory, list(self._windows)))
        return Snapshot(now_s, str(path), packed, self._lamps.shown, self._spec.seed)

    def _recall(self, snapshot: Snapshot) -> None:
        memory, windows = pickle.loads(snapshot.memory)
        self._account.tally, self._demand, self._traffic.weight, self._traffic.born, self._evidence_s = memory
        self._windows.extend(windows)
        self._traffic.measured = self._evidence_s > snapshot.at_s - WINDOW_S
        self._traffic.adopt_running()
        for vehicle, ride in self._traffic.rides.items():
            self._hand.keep_route(vehicle, ride)
