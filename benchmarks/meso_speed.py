"""Vehicle-seconds a second: the mesoscopic model beside SUMO, mesoscopic SUMO and UXsim, one core each, in one run.

    python benchmarks/meso_speed.py --json [--size 10] [--sizes 7,22,71] [--cities ../shared/data] [--city zone]
    python benchmarks/meso_speed.py --json --net N --routes R[,R] [--additional A] --begin 0 --end 3600

The grounds are a grid of signalised junctions from netgenerate, with random walks as routes, and the real cities
found in --cities; --city adds one, --net replaces them all. A vehicle-second is a second that a vehicle spends in the
network, by each model's own account. Time is processor time of the simulation alone, the best of some runs: of SUMO
that of a whole run that writes nothing, less that of a run that ends after its first second (it has then read the
network); of UXsim that of `exec_simulation`; of ours that of `MesoModel.score`, whose lane choices and alternative
routes are made once per city and not per plan. UXsim drives the same network without signals, in its default platoons
of five, which flatters it; it runs in Python and, where its version has one, in its C++ engine.

The last part runs our model on grids of growing size with demand in proportion: what a vehicle-second costs there,
and the exponent of the cost of a run over the number of junctions.
"""

from __future__ import annotations

import argparse
import importlib
import json
import resource
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import sumo
from referee_runs import Scenario

from networks.graph import Network
from networks.readers.formats import holds_programmes
from networks.readers.sumo import read_sumo
from scenarios.cities import find_city
from scenarios.routes import read_demand
from signals.meso import Demand, MesoModel, build_meso, car_demand, timing_of

REPEATS, BATCH = 5, 16
BIN = Path(sumo.SUMO_HOME) / "bin"
HORIZON_S = 1800.0
CARS_PER_JUNCTION, WALK_EDGES = 30, 12
CITIES = Path(__file__).resolve().parents[2] / "shared" / "data"
NAMES = ("resco/cologne1", "resco/cologne8", "resco/ingolstadt21", "networks/bologna_joined", "networks/hamburg_tavf")
PEERS = {
    "sumo": (),
    "sumo_meso": ("--mesosim", "true", "--meso-junction-control", "true"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        grounds = [race(ground, folder) for ground in _grounds(options, folder)]
        sizes = [growth(folder, int(side)) for side in options.sizes.split(",") if side]
    answer: dict[str, object] = {
        "ratios": {g["name"]: g["ratios"] for g in grounds},
        "grounds": grounds,
        "growth": sizes,
    }
    if len(sizes) > 1:
        junctions, run_s = (np.log([float(row[key]) for row in sizes]) for key in ("junctions", "run_s"))
        answer["growth_exponent"] = round(float(np.polyfit(junctions, run_s, 1)[0]), 3)
    print(json.dumps(answer) if options.json else "\n".join(f"{key}: {value}" for key, value in answer.items()))
    return 0


def race(ground: Scenario, folder: Path) -> dict[str, object]:
    """All models on one ground."""
    programmes = [path for path in ground.additional if holds_programmes(path)]
    network = read_sumo(ground.network, programmes)
    demand = read_demand(network, ground.routes, ground.additional)
    model = build_meso(network, demand, begin_s=ground.begin_s, end_s=ground.end_s)
    ours, ours_vehicle_s = rate(model)
    answer: dict[str, object] = {
        "name": ground.name,
        "vehicles": len(model.demand),
        "meso": {"vehicle_s": ours_vehicle_s, "rate": ours},
    }
    for label, extra in PEERS.items():
        answer[label] = _sumo(folder, ground, extra)
    for label, engine in (("uxsim", {}), ("uxsim_cpp", {"cpp": True})):
        answer[label] = _uxsim(network, model.demand, ground, engine)
    answer["ratios"] = {
        label: round(ours / part["rate"], 1)
        for label, part in answer.items()
        if label != "meso" and isinstance(part, dict)
    }
    return answer


def rate(model: MesoModel, batch: int = BATCH) -> tuple[float, float]:
    """Best vehicle-seconds a second of some scorings on one core, after a run that compiles; and those of a run."""
    timing = timing_of(model.network)
    vehicle_s, best_s = model.run(timing).vehicle_s, np.inf
    for _ in range(REPEATS):
        began = time.process_time()
        model.score([timing] * batch, workers=1)
        best_s = min(best_s, (time.process_time() - began) / batch)
    return vehicle_s / best_s, vehicle_s


def growth(folder: Path, side: int) -> dict[str, float]:
    """The model on a grid of side * side junctions."""
    network = read_sumo(_grid(folder, side))
    ways = random_walks(network, CARS_PER_JUNCTION * side**2)
    depart_s = np.linspace(0.0, HORIZON_S, len(ways), endpoint=False)
    model = build_meso(network, car_demand(depart_s, ways), begin_s=0.0, end_s=HORIZON_S)
    found, vehicle_s = rate(model, max(1, 5000 // side**2))
    return {
        "junctions": side**2,
        "vehicles": len(ways),
        "rate": found,
        "ns_per_vehicle_s": round(1e9 / found, 2),
        "run_s": vehicle_s / found,
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


def _sumo(folder: Path, ground: Scenario, extra: Sequence[str]) -> dict[str, float]:
    """Vehicle-seconds of one run with trip information, and the time of runs without any output."""
    trips = folder / "trips.xml"
    command = [
        str(BIN / "sumo"), "-n", str(ground.network), "-r", ",".join(map(str, ground.routes)),
        "-b", str(ground.begin_s),
        "--time-to-teleport", "-1", "--no-step-log", "--no-warnings", "--ignore-route-errors", *extra,
        *(("-a", ",".join(map(str, ground.additional))) if ground.additional else ()),
    ]  # fmt: skip
    whole = [*command, "-e", str(ground.end_s)]
    _spent_s([*whole, "--tripinfo-output", str(trips), "--tripinfo-output.write-unfinished"])
    vehicle_s = sum(float(e.get("duration", 0.0)) for _, e in ET.iterparse(trips) if e.tag == "tripinfo")
    loading_s = min(_spent_s([*command, "-e", str(ground.begin_s + 1.0)]) for _ in range(2))
    run_s = _spent_s(whole)
    if run_s < 5.0:
        run_s = min(run_s, _spent_s(whole))
    run_s -= loading_s
    return {"vehicle_s": vehicle_s, "rate": vehicle_s / max(run_s, 1e-3)}


def _spent_s(command: Sequence[str]) -> float:
    """Processor time of a child process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _uxsim(network: Network, demand: Demand, ground: Scenario, engine: dict[str, bool]) -> dict[str, float] | str:
    """The same streets and vehicles in UXsim; each drives from the first to the last node of its route."""
    try:
        world_of = importlib.import_module("uxsim").World
    except ImportError:
        return "not installed"
    try:
        world = world_of(
            name="", deltan=5, tmax=ground.end_s - ground.begin_s, print_mode=0, save_mode=0, show_mode=0,
            random_seed=0, **engine,
        )  # fmt: skip
    except TypeError:
        return "no such engine"
    for node, (x, y) in zip(network.nodes, network.node_xy, strict=True):
        world.addNode(node, float(x), float(y))
    edges = network.edges
    for e, name in enumerate(edges.ids):
        world.addLink(
            name, network.nodes[edges.from_node[e]], network.nodes[edges.to_node[e]], float(edges.length_m[e]),
            free_flow_speed=float(edges.speed_limit_mps[e]), number_of_lanes=max(int(edges.lane_count[e]), 1),
        )  # fmt: skip
    for v in range(0, len(demand), 5):
        way = demand.route[v]
        start, goal = network.nodes[edges.from_node[way[0]]], network.nodes[edges.to_node[way[-1]]]
        world.addVehicle(start, goal, float(demand.depart_s[v] - ground.begin_s))
    began = time.process_time()
    world.exec_simulation()
    spent_s = time.process_time() - began
    vehicle_s = float(sum(len(v.log_t) for v in world.VEHICLES.values())) * world.DELTAT * 5
    waiting = sum(state in ("home", "wait", "end", "abort") for v in world.VEHICLES.values() for state in v.log_state)
    vehicle_s -= float(waiting) * world.DELTAT * 5
    return {"vehicle_s": vehicle_s, "rate": vehicle_s / spent_s}


def _grounds(options: argparse.Namespace, folder: Path) -> Iterable[Scenario]:
    if options.net:
        paths = (_paths(options.routes), _paths(options.additional))
        yield Scenario("net", options.net.resolve(), *paths, options.begin, options.end)
        return
    net = _grid(folder, options.size)
    network = read_sumo(net)
    routes = _write_routes(folder, network, random_walks(network, CARS_PER_JUNCTION * options.size**2))
    yield Scenario("grid", net, (routes,), (), 0.0, HORIZON_S)
    for spec in [*(str(options.cities / name) for name in NAMES if (options.cities / name).is_dir()), *options.city]:
        city = find_city(spec)
        end_s = min(city.end_s, city.begin_s + options.horizon)
        yield Scenario(
            city.name, city.network, city.routes, (*city.additional, *city.programmes), city.begin_s, end_s
        )


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
    parser.add_argument("--cities", type=Path, default=CITIES, help="folder with resco/... and networks/...")
    parser.add_argument("--city", action="append", default=[], help="bundled name or folder; may be given again")
    parser.add_argument("--horizon", type=float, default=1800.0, help="seconds of each city")
    parser.add_argument("--sizes", default="7,22,71", help="junctions along one side of the growing grids")
    parser.add_argument("--json", action="store_true")
    return parser


if __name__ == "__main__":
    sys.exit(main())
