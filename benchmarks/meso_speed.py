"""Vehicle-seconds a second: the mesoscopic model beside SUMO, mesoscopic SUMO and UXsim, one core each, in one run.

    python benchmarks/meso_speed.py --json [--size 10] [--largest 5000]
    python benchmarks/meso_speed.py --json --net N --routes R[,R] [--additional A] --begin 0 --end 3600

Without --net the ground is a grid of signalised junctions from netgenerate, with random walks as routes. A
vehicle-second is a second that a vehicle spends in the network, by each model's own account; time is that of the
simulation alone, loading left out on all sides (SUMO and UXsim report it, ours is read around `MesoModel.score`).
UXsim drives the same network without signals, in its default platoons of five, which flatters it. The last part runs
our model on grids of growing size: the cost of a vehicle-second must not grow with the city.
"""

from __future__ import annotations

import argparse
import importlib
import json
import re
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import sumo

from networks.graph import Network
from networks.readers.sumo import read_sumo
from scenarios.routes import read_demand
from signals.meso import MesoModel, build_meso, car_demand, timing_of

REPEATS, BATCH = 5, 4
BIN = Path(sumo.SUMO_HOME) / "bin"
HORIZON_S = 1800.0
CARS_PER_JUNCTION, WALK_EDGES = 30, 12


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.net:
            net, additional = options.net.resolve(), _paths(options.additional)
            routes, begin_s, end_s = _paths(options.routes), options.begin, options.end
            network = read_sumo(net, [p for p in additional if b"<tlLogic" in p.read_bytes()])
            demand = read_demand(network, routes, additional)
        else:
            net, begin_s, end_s, additional = _grid(folder, options.size), 0.0, HORIZON_S, ()
            network = read_sumo(net)
            ways = random_walks(network, CARS_PER_JUNCTION * options.size**2)
            routes = (_write_routes(folder, network, ways),)
            demand = read_demand(network, routes)
        ours, ours_vehicle_s = rate(build_meso(network, demand, begin_s=begin_s, end_s=end_s))
        answer: dict[str, object] = {"vehicles": len(demand), "meso": {"vehicle_s": ours_vehicle_s, "rate": ours}}
        for label, extra in (("sumo", ()), ("sumo_meso", ("--mesosim", "true", "--meso-junction-control", "true"))):
            answer[label] = _sumo(folder, net, routes, additional, (begin_s, end_s), extra)
        answer["uxsim"] = _uxsim(network, demand.depart_s - begin_s, demand.route, end_s - begin_s)
        answer["ratios"] = {
            label: round(ours / part["rate"], 1)
            for label in ("sumo", "sumo_meso", "uxsim")
            if isinstance(part := answer[label], dict)
        }
        answer["growth"] = [growth(folder, side) for side in (10, 20, 40, 71) if side**2 <= 1.1 * options.largest]
    print(json.dumps(answer) if options.json else "\n".join(f"{key}: {value}" for key, value in answer.items()))
    return 0


def rate(model: MesoModel) -> tuple[float, float]:
    """Best vehicle-seconds a second of some scorings on one core, after a run that compiles; and those of a run."""
    timing = timing_of(model.network)
    vehicle_s, best_s = model.run(timing).vehicle_s, np.inf
    for _ in range(REPEATS):
        began = time.perf_counter()
        model.score([timing] * BATCH, workers=1)
        best_s = min(best_s, (time.perf_counter() - began) / BATCH)
    return vehicle_s / best_s, vehicle_s


def growth(folder: Path, side: int) -> dict[str, float]:
    """The model on a grid of side * side junctions."""
    network = read_sumo(_grid(folder, side))
    ways = random_walks(network, CARS_PER_JUNCTION * side**2)
    depart_s = np.linspace(0.0, HORIZON_S, len(ways), endpoint=False)
    model = build_meso(network, car_demand(depart_s, ways), begin_s=0.0, end_s=HORIZON_S)
    found, vehicle_s = rate(model)
    return {
        "junctions": side**2,
        "vehicles": len(ways),
        "rate": found,
        "ns_per_vehicle_s": round(1e9 / found, 2),
        "run_s": round(vehicle_s / found, 4),
    }


def random_walks(network: Network, count: int) -> list[list[int]]:
    """Routes that turn at random and never straight back."""
    rng = np.random.default_rng(7)
    edges, onward = network.edges, network.edge_successors
    starts = rng.integers(0, len(edges.ids), count)
    ways = []
    for start in starts.tolist():
        way = [start]
        while len(way) < WALK_EDGES:
            ahead = [e for e in onward[way[-1]].tolist() if edges.to_node[e] != edges.from_node[way[-1]]]
            if not ahead:
                break
            way.append(ahead[int(rng.integers(len(ahead)))])
        ways.append(way)
    return ways


def _grid(folder: Path, side: int) -> Path:
    net = folder / f"grid{side}.net.xml"
    command = [
        str(BIN / "netgenerate"), "--grid", "--grid.number", str(side), "--grid.length", "200", "-L", "2",
        "--default-junction-type", "traffic_light", "--no-turnarounds", "-o", str(net),
    ]  # fmt: skip
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return net


def _write_routes(folder: Path, network: Network, ways: Sequence[Sequence[int]]) -> Path:
    path = folder / "walks.rou.xml"
    rows = []
    for i, way in enumerate(ways):
        names = " ".join(network.edges.ids[e] for e in way)
        depart_s = HORIZON_S * i / len(ways)
        rows.append(
            f'<vehicle id="{i}" depart="{depart_s:.2f}" departLane="best" departSpeed="max">'
            f'<route edges="{names}"/></vehicle>\n'
        )
    path.write_text(f"<routes>\n{''.join(rows)}</routes>\n")
    return path


def _sumo(
    folder: Path,
    net: Path,
    routes: Sequence[Path],
    additional: Sequence[Path],
    span_s: tuple[float, float],
    extra: Sequence[str],
) -> dict[str, float]:
    trips = folder / "trips.xml"
    command = [
        str(BIN / "sumo"), "-n", str(net), "-r", ",".join(map(str, routes)), "-b", str(span_s[0]), "-e",
        str(span_s[1]), "--time-to-teleport", "-1", "--no-step-log", "--no-warnings", "--ignore-route-errors",
        "--duration-log.statistics", "--tripinfo-output", str(trips), "--tripinfo-output.write-unfinished", *extra,
        *(("-a", ",".join(map(str, additional))) if additional else ()),
    ]  # fmt: skip
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    said = re.search(r"Duration: ([\d.]+)\s*s", text)
    if said is None:
        raise RuntimeError(f"SUMO did not say how long it took:\n{text}")
    vehicle_s = sum(float(e.get("duration", 0.0)) for _, e in ET.iterparse(trips) if e.tag == "tripinfo")
    return {"vehicle_s": vehicle_s, "rate": vehicle_s / max(float(said.group(1)), 1e-3)}


def _uxsim(network: Network, depart_s: np.ndarray, route: object, span_s: float) -> dict[str, float] | str:
    """The same streets and vehicles in UXsim; each drives from the first to the last node of its route."""
    try:
        world_of = importlib.import_module("uxsim").World
    except ImportError:
        return "not installed"
    world = world_of(name="", deltan=5, tmax=span_s, print_mode=0, save_mode=0, show_mode=0, random_seed=0)
    for node, (x, y) in zip(network.nodes, network.node_xy, strict=True):
        world.addNode(node, float(x), float(y))
    edges = network.edges
    for e, name in enumerate(edges.ids):
        world.addLink(
            name, network.nodes[edges.from_node[e]], network.nodes[edges.to_node[e]], float(edges.length_m[e]),
            free_flow_speed=float(edges.speed_limit_mps[e]), number_of_lanes=max(int(edges.lane_count[e]), 1),
        )  # fmt: skip
    for v in range(0, len(depart_s), 5):
        way = route[v]  # type: ignore[index]
        world.addVehicle(
            network.nodes[edges.from_node[way[0]]], network.nodes[edges.to_node[way[-1]]], float(depart_s[v])
        )
    began = time.perf_counter()
    world.exec_simulation()
    spent_s = time.perf_counter() - began
    vehicle_s = float(sum(len(v.log_t) for v in world.VEHICLES.values())) * world.DELTAT * 5
    waiting = sum(state in ("home", "wait", "end", "abort") for v in world.VEHICLES.values() for state in v.log_state)
    vehicle_s -= float(waiting) * world.DELTAT * 5
    return {"vehicle_s": vehicle_s, "rate": vehicle_s / spent_s}


def _paths(text: str) -> tuple[Path, ...]:
    return tuple(Path(part).resolve() for part in text.split(",") if part)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", type=Path)
    parser.add_argument("--routes", default="")
    parser.add_argument("--additional", default="")
    parser.add_argument("--begin", type=float, default=0.0)
    parser.add_argument("--end", type=float, default=3600.0)
    parser.add_argument("--size", type=int, default=10, help="junctions along one side of the grid")
    parser.add_argument("--largest", type=int, default=5041, help="junctions of the largest grid")
    parser.add_argument("--json", action="store_true")
    return parser


if __name__ == "__main__":
    sys.exit(main())
