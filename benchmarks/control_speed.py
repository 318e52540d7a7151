"""What live control costs: milliseconds per junction and second, with a given number of vehicles in view of each.

    python benchmarks/control_speed.py --vehicles 50 --json

Every signal of a network gets random traffic on all of its approaches (half standing, half coming), and is controlled
for some seconds from lamps that follow its own plans, proof of safety included. Processor time is counted, so that
other work on the machine does not show. The limit is one millisecond per
junction and second on one core; the second figure is how many junctions one core replans within a second.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from pathlib import Path

import numpy as np

from networks.city import load_network
from networks.graph import Network
from networks.readers.sumo import read_sumo
from scenarios.cities import find_city
from signals.arbiter import decide
from signals.controllers.approach_rows import ApproachRows, LaneRoom
from signals.controllers.rolling_horizon import RollingHorizon
from signals.lamps import LampRecord
from signals.plan import SignalPlan

LIMIT_MS = 1.0


def random_rows(rng: np.random.Generator, network: Network, vehicles: int) -> ApproachRows:
    """`vehicles` on the way to every signal, on links drawn evenly."""
    signal, link = [], []
    for index, one in enumerate(network.signals):
        driven = [k for k, moves in enumerate(one.link_movements) if moves]
        if driven:
            signal += [index] * vehicles
            link += rng.choice(driven, vehicles).tolist()
    count = len(signal)
    stopped = rng.random(count) < 0.5
    distance = rng.uniform(0.0, 250.0, count)
    return ApproachRows(
        signal=np.array(signal, np.int32),
        link=np.array(link, np.int32),
        movement=np.full(count, -1, np.int32),
        distance_m=distance,
        arrival_s=distance / 12.0,
        wait_s=np.where(stopped, rng.uniform(0.0, 60.0, count), 0.0),
        weight=np.ones(count),
        stopped=stopped,
        onward_signal=np.full(count, -1, np.int32),
        onward_link=np.full(count, -1, np.int32),
        onward_m=np.zeros(count),
    )


def measure(network: Network, vehicles: int, seconds: int, seed: int) -> dict[str, float]:
    rng = np.random.default_rng(seed)
    controller = RollingHorizon(network)
    lanes = len(network.lanes.ids)
    room = LaneRoom(np.zeros(lanes), np.ones(lanes))
    lamps: list[LampRecord | None] = [LampRecord.start(s.stages[0].state, 0.0) for s in network.signals]
    plans: dict[int, SignalPlan] = {}
    spent: list[float] = []
    gc.collect()
    gc.freeze()  # as the service does before its first cycle
    for second in range(1, seconds + 1):
        now_s = float(second)
        rows = random_rows(rng, network, vehicles)
        begin = time.process_time()
        proposals = controller.plan(rows, room, lamps, valid_from_s=now_s)
        decision = decide(proposals, network.signals, lamps, now_s=now_s, first_version=second)
        spent.append(time.process_time() - begin)
        plans |= {a.plan.signal: a.plan for a in decision.approved}
        for index, plan in plans.items():
            record = lamps[index]
            if record is not None:
                lamps[index] = record.then(plan.state_at(now_s), now_s)
    measured = np.array(spent[max(3, seconds // 10) :]) * 1e3 / len(network.signals)
    return {
        "junctions": len(network.signals),
        "vehicles_in_view": vehicles,
        "mean_ms": float(measured.mean()),
        "p99_ms": float(np.quantile(measured, 0.99)),
        "limit_ms": LIMIT_MS,
        "junctions_per_second_and_core": float(1e3 / measured.mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--city", default="zone", help="bundled city, city folder or .net.xml(.gz)")
    parser.add_argument("--vehicles", type=int, default=50)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    order = parser.parse_args()
    is_net = ".net.xml" in order.city
    network = read_sumo(Path(order.city)) if is_net else load_network(find_city(order.city))
    figures = measure(network, order.vehicles, order.seconds, order.seed)
    if order.json:
        print(json.dumps(figures))
    else:
        print(f"{figures['junctions']} junctions, {order.vehicles} vehicles in view of each")
        print(
            f"{figures['mean_ms']:.2f} ms per junction and second (99 %: {figures['p99_ms']:.2f}, limit {LIMIT_MS})"
        )
        print(f"{figures['junctions_per_second_and_core']:.0f} junctions a second and core")


if __name__ == "__main__":
    main()
