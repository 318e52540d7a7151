"""How fast a mirror of a big city runs, what mirroring costs beside stepping, and how soon a killed one is back.

    python benchmarks/mirror_speed.py --json                                     # a grid with 10,000 vehicles
    python benchmarks/mirror_speed.py --city ../shared/data/networks/bologna_joined --warm 1200 --json

The grid is made by SUMO's netgenerate: signals at every crossing, two lanes each way, through and turning traffic.
A mirror runs its demand up to the measured moment and saves it. From that state, one process after the other and
in turns, SUMO is stepped bare, and mirrored: lamps of every signal set, flows and lane counts of every approach
assimilated every two seconds, with an error on the counts so that vehicles are put on and taken off. `overhead` is
the CPU time of the one over that of the other; `times_real` is by the mirror's wall time, in which other work of
the machine counts too, and by its CPU time. Last, the mirror is killed with SIGKILL and restarted.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import sumolib

from networks.city import CityFolder, Coverage, load_network
from networks.graph import Network
from networks.sensors import approach_edges, find_detectors
from networks.state import Estimate, LampView, NetworkState, VehicleTable
from scenarios.cities import find_city
from scenarios.simulation import Simulation, run_in_process
from signals.fixed import fixed_plan
from twin.mirror import Mirror
from twin.mirror_process import Follower, MirrorSpec, restored_run
from twin.mirror_words import MirrorEstimate, Snapshot, Watched, observe

CYCLE_S = 2.0
WANTED = {"times_real": 5.0, "overhead": 1.25, "back_s": 5.0}


def grid(folder: Path, side: int, vph: float, seconds: float) -> CityFolder:
    """A square of `side` x `side` signals 300 m apart; `vph` vehicles an hour enter each of its streets each way."""
    net, routes = folder / "grid.net.xml", folder / "grid.rou.xml"
    words = [sumolib.checkBinary("netgenerate"), "--grid", "--grid.number", str(side), "--grid.length", "300"]
    words += ["--grid.attach-length", "300", "--default.lanenumber", "2", "--default-junction-type", "traffic_light"]
    words += ["--no-turnarounds", "true", "--tls.green.time", "30", "-o", str(net)]
    subprocess.run(words, check=True, capture_output=True)
    network = sumolib.net.readNet(str(net))
    ways: dict[tuple[float, float], list[str]] = {}
    starts = [e for e in network.getEdges() if not e.getIncoming()]
    for start in starts:
        way = [start]
        while True:
            ahead = [c.getTo() for cs in way[-1].getOutgoing().values() for c in cs if c.getDirection() == "s"]
            if not ahead:
                break
            way.append(ahead[0])
        ways[start.getFromNode().getCoord()] = [e.getID() for e in way]
    rows = "".join(
        f'<flow id="f{k}" begin="0" end="{seconds:.0f}" vehsPerHour="{vph:.0f}" departLane="best" departSpeed="max">'
        f'<route edges="{" ".join(way)}"/></flow>'
        for k, way in enumerate(ways.values())
    )
    routes.write_text(f"<routes>{rows}</routes>", encoding="utf-8")
    return CityFolder("grid", folder, net, (routes,), (), (), 0.0, seconds, 1.7e9, Coverage())


class Street:
    """What a street would tell that is as the mirror has it, but for an error on the counts."""

    def __init__(self, city: CityFolder, network: Network, seed: int) -> None:
        self._city, self._network = city, network
        self._fixed = [fixed_plan(s, index=k, epoch_of_zero_s=0.0) for k, s in enumerate(network.signals)]
        self._rng = np.random.default_rng(seed)
        self.approach = np.zeros(len(network.edges.ids), np.bool_)
        self.approach[list(approach_edges(network))] = True

    def at(self, now_s: float, estimate: MirrorEstimate | None) -> NetworkState:
        """The state at a simulated second."""
        network, approach = self._network, self.approach
        zero_l = np.zeros(len(network.lanes.ids))
        lane = approach[network.lanes.edge]

        def known(value: np.ndarray, where: np.ndarray) -> Estimate:
            return Estimate(value, np.full(len(value), 0.25), np.where(where, 1.0, np.inf), where)

        error = self._rng.normal(0.0, 1.0, len(zero_l))
        vehicles = np.maximum(0.0, (estimate.lane_vehicles if estimate is not None else zero_l) + error)
        unknown_e = Estimate.unknown(len(approach))
        epoch_s = self._city.epoch_s + now_s - self._city.begin_s
        lamps = tuple(
            LampView(plan.state_at(now_s - 1.0), np.full(s.link_count, -np.inf), epoch_s, 1)
            for plan, s in zip(self._fixed, network.signals, strict=True)
        )
        return NetworkState(
            now_s=epoch_s,
            edge_flow_vps=known(estimate.edge_flow_vps, approach) if estimate is not None else unknown_e,
            edge_speed_mps=unknown_e,
            edge_density_vpm=unknown_e,
            lane_queue_veh=known(estimate.lane_queue_veh if estimate is not None else zero_l, lane),
            lane_vehicles=known(vehicles, lane),
            movement_share=Estimate.unknown(len(network.movements.turn)),
            vehicles=VehicleTable.empty(),
            lamps=lamps,
            coverage=1.0,
            unhealthy=(),
        )


def bare(city: CityFolder, snapshot: Snapshot, seconds: float, folder: Path) -> tuple[float, float, int]:
    """Body of a process: wall and CPU seconds of stepping alone, and vehicles on the road."""
    with Simulation(restored_run(city, snapshot, snapshot.seed, folder)) as simulation:
        simulation.step()
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        for _ in range(round(seconds)):
            simulation.step()
        spent = time.perf_counter() - wall_s, time.process_time() - cpu_s
        return *spent, simulation.sumo.vehicle.getIDCount()


def mirrored(
    city: CityFolder, network: Network, snapshot: Snapshot, seconds: float, folder: Path
) -> tuple[float, float, int, int]:
    """Body of a process: the same with everything that the mirror's own process does, snapshots too."""
    watched = Watched.by(network, find_detectors(network, city.coverage))
    street, spent_wall_s, spent_cpu_s = Street(city, network, 7), 0.0, 0.0
    spec = MirrorSpec(city, network, snapshot.seed, folder, 99, True, snapshot)
    with Simulation(restored_run(city, snapshot, snapshot.seed, folder)) as simulation:
        follower = Follower(spec, simulation)
        estimate: MirrorEstimate | None = None
        changes, now_s = 0, snapshot.at_s + 1.0
        while now_s <= snapshot.at_s + 1.0 + seconds:
            seen = observe(street.at(now_s, estimate), watched, city.begin_s - city.epoch_s)
            wall_s, cpu_s = time.perf_counter(), time.process_time()
            estimate, _ = follower.follow(seen)
            if now_s > snapshot.at_s + 1.0:
                spent_wall_s += time.perf_counter() - wall_s
                spent_cpu_s += time.process_time() - cpu_s
                changes += len(estimate.changes)
            now_s += CYCLE_S
        return spent_wall_s, spent_cpu_s, estimate.running if estimate is not None else 0, changes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--city", help="bundled city or city folder, in place of the grid")
    parser.add_argument("--side", type=int, default=18, help="signals along a side of the grid")
    parser.add_argument("--vph", type=float, default=900.0, help="vehicles an hour into each street of the grid")
    parser.add_argument("--warm", type=float, default=600.0, help="simulated seconds before measuring")
    parser.add_argument("--seconds", type=float, default=60.0, help="simulated seconds of one turn")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    order = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        city = find_city(order.city) if order.city else grid(folder, order.side, order.vph, order.warm + 600.0)
        document = measure(replace(city, coverage=Coverage()), order, folder)
    if order.json:
        print(json.dumps(document))
        return
    for key, value in document.items():
        print(f"{key:16s} {value}")


def measure(city: CityFolder, order: argparse.Namespace, folder: Path) -> dict[str, object]:
    network = load_network(city)
    street = Street(city, network, 1)
    with closing(Mirror(city, network)) as mirror:
        mirror.start()
        print(f"warming up: {order.warm:.0f} s", file=sys.stderr, flush=True)
        for now_s in (city.begin_s + order.warm - 1.0, city.begin_s + order.warm):
            mirror.assimilate(blind(street.at(now_s, None)))
            if not mirror.wait(3600.0):
                raise SystemExit(f"mirror: {mirror.failure}")
        snapshot = mirror.snapshot(folder)
        if snapshot is None:
            raise SystemExit("mirror: no snapshot")
        loads: list[tuple[float, float, int]] = []
        mirrors: list[tuple[float, float, int, int]] = []
        for turn in range(order.turns):
            loads.append(run_in_process(bare, city, snapshot, order.seconds, folder))
            mirrors.append(run_in_process(mirrored, city, network, snapshot, order.seconds, folder))
            print(f"turn {turn + 1}: bare {loads[-1]}, mirrored {mirrors[-1]}", file=sys.stderr, flush=True)
        back_s, caught_up_s = strike(mirror, street, city.begin_s + order.warm)
    overheads = [m[1] / b[1] for m, b in zip(mirrors, loads, strict=True)]
    document: dict[str, object] = {
        "city": city.name,
        "signals": len(network.signals),
        "vehicles": min(m[2] for m in mirrors),
        "times_real": round(order.seconds / median(m[0] for m in mirrors), 2),
        "times_real_cpu": round(order.seconds / median(m[1] for m in mirrors), 2),
        "bare_times_real_cpu": round(order.seconds / median(b[1] for b in loads), 2),
        "overhead": round(median(overheads), 3),
        "overheads": [round(o, 3) for o in overheads],
        "changes_by_hand": [m[3] for m in mirrors],
        "back_s": round(back_s, 2),
        "caught_up_s": round(caught_up_s, 2),
        "wanted": WANTED,
        "load_at_end": os.getloadavg()[0],
    }
    return document


def blind(state: NetworkState) -> NetworkState:
    """The same time, nothing known: the signals stay with their own programmes, which a saved state holds in step."""
    edges, lanes = Estimate.unknown(len(state.edge_flow_vps.value)), Estimate.unknown(len(state.lane_vehicles.value))
    return replace(
        state, edge_flow_vps=edges, lane_vehicles=lanes, lane_queue_veh=lanes, lamps=(None,) * len(state.lamps)
    )


def strike(mirror: Mirror, street: Street, now_s: float) -> tuple[float, float]:
    """Kill the mirror ten seconds after its last state; wall seconds until it answers again, and has caught up."""
    for k in range(1, 6):
        mirror.assimilate(street.at(now_s + k * CYCLE_S, mirror.latest()))
    mirror.wait(600.0)
    process = mirror.process_id
    assert process is not None
    os.kill(process, signal.SIGKILL)
    while mirror.alive:
        time.sleep(0.001)
    before = mirror.latest()
    begun = time.monotonic()
    mirror.restart()
    while mirror.latest() is before and mirror.alive:
        time.sleep(0.005)
    back_s = time.monotonic() - begun
    if not mirror.wait(600.0):
        raise SystemExit(f"mirror after the restart: {mirror.failure}")
    return back_s, time.monotonic() - begun


if __name__ == "__main__":
    main()
