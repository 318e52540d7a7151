"""What priority gives to buses, emergency vehicles and walkers, and what it costs the others.

python benchmarks/priority.py [--scenarios bologna,zone] [--seeds 1,2] [--span 900] [--json]
    [--policy FILE]        instead of the default policy
    [--variants none,all] [--emergencies 4]
    [--referee FILE]       the scenarios named lie beside it
    [--cities FOLDER]      the city folders of bologna and hamburg

Full detection, one process a run. Every run has the same emergency vehicles added to the scenario's demand (crossing
the network by its longest ways, `--emergencies` of them). "none": rolling-horizon control to which all are alike.
"weights": by policy. "walkers": and, where nobody walks, people expected at crossings. "all": with pre-emption too.

Delays are time loss plus insertion delay over all scheduled vehicles of the kind, those that never got in included.
Lateness is that of the stops' `until` times where the demand has them. Walker delay is the time that those on foot
lose; where nobody walks, what the lamps of the crossings mean for people who come at any moment.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from referee_runs import CITIES, REFEREE, Scenario, find_scenario, mean_of, parse_seeds, print_rows

from networks.graph import EMERGENCY, Network
from networks.readers.sumo import read_sumo
from networks.route_book import RouteBook
from scenarios.demand import read_schedule
from scenarios.full_detection import FullDetection
from scenarios.lamp_measures import walk_loss_s
from scenarios.measures import read_tripinfo, summarise
from scenarios.simulation import RunSpec, Simulation
from scenarios.waiting import Calls
from signals.arbiter import decide
from signals.controllers.base import Controller
from signals.controllers.preemption import Preemption
from signals.controllers.rolling_horizon import RollingHorizon
from signals.plan import SignalPlan
from signals.priority import expect_walkers, read_policy

VARIANTS = ("none", "weights", "walkers", "all")
FIRST_S, HEADWAY_S = 90.0, 60.0  # departures of the emergency vehicles
NO_PREEMPTION = {"ahead_s": 1e-9}


def make_control(
    libsumo: Any, network: Network, variant: str, policy_file: Path | None
) -> tuple[Controller, FullDetection]:
    """The controller of a variant, and its detectors."""
    policy = read_policy(policy_file)
    walkers = expect_walkers(policy, network) if variant != "none" else None
    if walkers is not None and variant == "weights":
        walkers = replace(walkers, expected_factor=0.0)
    calls = Calls(libsumo, network, walkers)
    horizon = RollingHorizon(network, walkers=calls)
    vouches = not horizon.may_lock  # as `scenarios.full_detection.DetectedControl`
    street = FullDetection(libsumo, network, horizon.stop_lines, calls=calls, vouch_for_lanes=vouches)
    if variant == "none":
        return horizon, street
    if variant != "all":
        policy = policy.model_copy(update={"emergency": policy.emergency.model_copy(update=NO_PREEMPTION)})
    return Preemption(network, horizon, policy), street


def write_emergencies(network: Network, scenario: Scenario, count: int, path: Path) -> None:
    """Trips over the longest fastest ways between the entries and exits of the network, spread over them."""
    edges, moves, lanes = network.edges, network.movements, network.lanes
    usable = np.bincount(lanes.edge, (lanes.allowed & EMERGENCY) > 0, len(edges.ids)) > 0
    entered = np.bincount(lanes.edge[moves.to_lane], minlength=len(edges.ids)) > 0
    left = np.bincount(lanes.edge[moves.from_lane], minlength=len(edges.ids)) > 0
    origins, exits = np.flatnonzero(usable & ~entered & left), np.flatnonzero(usable & ~left & entered)
    book = RouteBook(network)
    ways: list[tuple[int, list[int]]] = []
    for target in exits.tolist():
        onward = book.next_edges(target)
        for origin in origins.tolist():
            way = [origin]
            while way[-1] != target and onward[way[-1]] >= 0 and len(way) < 500:
                way.append(int(onward[way[-1]]))
            if way[-1] == target and all(usable[way]):
                ways.append((len(way), way))
    ways.sort(key=lambda w: (-w[0], w[1]))
    chosen, used = [], set[int]()
    for _, way in ways:
        if way[0] not in used and way[-1] not in used and len(chosen) < count:
            chosen.append(way)
            used |= {way[0], way[-1]}
    departs_s = [scenario.begin_s + FIRST_S + n * HEADWAY_S for n in range(len(chosen))]
    rows = [
        f'<vehicle id="emergency_{n}" type="emergency_type" depart="{depart_s:.0f}" departLane="best">'
        f'<route edges="{" ".join(edges.ids[e] for e in way)}"/></vehicle>\n'
        for n, (way, depart_s) in enumerate(zip(chosen, departs_s, strict=True))
    ]
    kind = '<vType id="emergency_type" vClass="emergency" length="7" speedFactor="1.2"/>\n'
    path.write_text(f"<routes>\n{kind}{''.join(rows)}</routes>\n", encoding="utf-8")


def run_one(scenario: Scenario, variant: str, seed: int, emergencies: int, policy: Path | None) -> dict[str, Any]:
    """One run in this process."""
    network = read_sumo(scenario.network)
    with tempfile.TemporaryDirectory(prefix="priority_") as name:
        folder = Path(name)
        extra, trips = folder / "emergency.rou.xml", folder / "trips.xml"
        write_emergencies(network, scenario, emergencies, extra)
        routes = (*scenario.routes, extra)
        spec = RunSpec(
            network=scenario.network,
            routes=routes,
            additional=scenario.additional,
            begin_s=scenario.begin_s,
            seed=seed,
            tripinfo=trips,
            extra=("--ignore-route-errors", "true"),
        )
        plans: dict[int, SignalPlan] = {}
        shown: list[list[str]] = [[] for _ in network.signals]
        refused, spent_s = 0, []
        with Simulation(spec) as simulation:
            controller, street = make_control(simulation.sumo, network, variant, policy)
            while simulation.now_s < scenario.end_s:
                now_s = simulation.now_s
                lamps = street.look(now_s)
                state = street.state(now_s)
                begun_s = time.perf_counter()
                proposals = controller.propose(state, None, lamps, valid_from_s=now_s)
                spent_s.append(time.perf_counter() - begun_s)
                decision = decide(proposals, network.signals, lamps, now_s=now_s, first_version=0)
                refused += len(decision.refused)
                plans |= {approved.plan.signal: approved.plan for approved in decision.approved}
                for index, plan in plans.items():
                    street.show(index, plan.state_at(now_s))
                for states, record in zip(shown, street.records, strict=True):
                    if record is not None:
                        states.append(record.state)
                simulation.step()
        schedule = read_schedule(routes, scenario.additional)
        walks_s = walk_loss_s(trips, network.signals, shown)
        told = summarise(read_tripinfo(trips), schedule, begin_s=scenario.begin_s, end_s=scenario.end_s)
        travel_s = [
            float(e.get("duration", 0.0)) + float(e.get("departDelay", 0.0))
            for _, e in ET.iterparse(trips)
            if e.tag == "tripinfo" and e.get("id", "").startswith("emergency_")
        ]
    others = [v for k, v in told.class_delay_s.items() if k not in ("bus", "emergency")]
    return {
        "scenario": scenario.name,
        "variant": variant,
        "seed": seed,
        "delay_s": told.mean_delay_s,
        "bus_delay_s": told.class_delay_s.get("bus"),
        "emergency_delay_s": told.class_delay_s.get("emergency"),
        "emergency_travel_s": float(np.mean(travel_s)) if travel_s else None,
        "others_delay_s": told.class_delay_s.get("car", others[0] if others else None),
        "walker_delay_s": walks_s,
        "unfinished": told.running + told.never_inserted,
        "refused": refused,
        "ms_mean": 1e3 * float(np.mean(spent_s[5:])),
        "ms_99": 1e3 * float(np.percentile(spent_s[5:], 99)),
    }


def _in_own_process(job: tuple[Any, ...]) -> dict[str, Any]:
    return run_one(*job)


NUMBERS = ("delay_s", "others_delay_s", "bus_delay_s", "emergency_delay_s", "emergency_travel_s", "walker_delay_s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenarios", default="bologna,zone")
    parser.add_argument("--seeds", default="1,2")
    parser.add_argument("--span", type=float, default=900.0, help="simulated seconds")
    parser.add_argument("--variants", default=",".join(VARIANTS))
    parser.add_argument("--emergencies", type=int, default=4)
    parser.add_argument("--policy", type=Path)
    parser.add_argument("--referee", type=Path, default=REFEREE)
    parser.add_argument("--cities", type=Path, default=CITIES)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = []
    for name in options.scenarios.split(","):
        found = find_scenario(name, options.referee, options.cities)
        scenario = replace(found, end_s=min(found.end_s, found.begin_s + options.span))
        for variant in options.variants.split(","):
            for seed in parse_seeds(options.seeds):
                job = (scenario, variant, seed, options.emergencies, options.policy)
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    rows.append(pool.apply(_in_own_process, (job,)))
                print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    groups: defaultdict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["scenario"], row["variant"]].append(row)
    cells = [
        {"scenario": s, "variant": v, "seeds": len(g), "refused": sum(r["refused"] for r in g)}
        | {n: mean_of(g, n) for n in (*NUMBERS, "unfinished", "ms_mean", "ms_99")}
        for (s, v), g in groups.items()
    ]
    if options.json:
        print(json.dumps(cells, indent=1))
        return
    names = [*NUMBERS, "unfinished", "ms_mean"]
    shown = ([c["scenario"], c["variant"], *("-" if c[n] is None else f"{c[n]:.1f}" for n in names)] for c in cells)
    print_rows(["scenario", "variant", *names], shown)


if __name__ == "__main__":
    main()
