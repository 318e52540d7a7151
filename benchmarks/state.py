"""How far the fused state is from the street: any SUMO scenario as a virtual city under its own signals.

    python benchmarks/state.py --net N.net.xml --routes R.rou.xml[,MORE] --begin B --end E --seeds 1,2,3 --json
    python benchmarks/state.py --city zone --seconds 1800 [--loops 0.5 --roadside 0.2 --equipped 0.05]

Four states are held against the same truth: `fused` (sensors, the prior of the demand, and the mirror that is fed by
this very state, as in the live loop), `without mirror`, `sensors only` and `prior only`. The day driven differs from
the demand file by seed and by origin, as everywhere. Flows and speeds of links are compared over five minutes, queues
on motor lanes of signal approaches every half minute; the first five minutes are not scored. `coverage` is the share
of the truth within 1.645 stated standard deviations: 0.90 is wanted. Files of `--routes` that hold no demand are
loaded as additional files.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
from referee_runs import parse_seeds

from networks.batches import Batches
from networks.city import DEFAULT_EPOCH, CityFolder, Coverage, Detector, load_network
from networks.city_guess import holds_demand
from networks.errors import ProcessError
from networks.graph import Bools, Floats, Network
from networks.sensors import find_detectors, instrumented_signals
from networks.state import Estimate, NetworkState
from scenarios.cities import find_city
from scenarios.measures import geh
from scenarios.prior import build_prior
from scenarios.side_by_side import ScenarioFiles
from scenarios.virtual_city import StreetOptions, Truth, VirtualCity
from twin.fusion import Fusion
from twin.inbox import Inbox
from twin.mirror import Mirror
from twin.score import LEAST_SAMPLES, WINDOW_S, over_window

WARM_UP_S = 300.0
QUEUE_EVERY_S = 30.0
TWO_SIDED_90 = 1.645
MIRROR_EVERY_S, MIRROR_TIMEOUT_S = 5, 300.0
SEES = ("fused", "without mirror", "sensors only", "prior only")
WANTED = {"flow_geh_lt5": 0.9, "speed_rmse_mps": 1.5, "queue_mae_observed": 2.0, "queue_mae_unobserved": 4.0}


class Errors:
    """Of one kind of state, gathered over time and seeds."""

    def __init__(self) -> None:
        self.near: list[Floats] = []
        self.off: dict[str, list[Floats]] = defaultdict(list)
        self.inside: dict[str, list[Bools]] = defaultdict(list)
        self.known: list[Bools] = []
        self.spent_ms: list[float] = []

    def add(self, quantity: str, estimate: Estimate, truth: Floats, use: Bools) -> None:
        use = use & estimate.valid & np.isfinite(truth)
        off = estimate.value[use] - truth[use]
        self.off[quantity].append(off)
        self.inside[quantity.split(",")[0]].append(np.abs(off) <= TWO_SIDED_90 * np.sqrt(estimate.variance[use]))

    def table(self) -> dict[str, float | None]:
        def over(parts: list[Floats], measure: str) -> float | None:
            whole = np.concatenate(parts) if parts else np.empty(0)
            if not len(whole):
                return None
            return float(np.sqrt(np.mean(whole**2)) if measure == "rmse" else np.mean(np.abs(whole)))

        return {
            "flow_geh_lt5": over(self.near, "mean"),
            "links_known": over([k.astype(float) for k in self.known], "mean"),
            "speed_rmse_mps": over(self.off["speed"], "rmse"),
            "queue_mae_observed": over(self.off["queue, observed"], "mean"),
            "queue_mae_unobserved": over(self.off["queue, unobserved"], "mean"),
            **{
                f"coverage_{q}": over([i.astype(float) for i in self.inside[q]], "mean")
                for q in ("flow", "speed", "queue")
            },
            "update_ms_p50": float(np.median(self.spent_ms)) if self.spent_ms else None,
        }


class Judge:
    """Holds states against the truth beside them."""

    def __init__(self, network: Network, detectors: tuple[Detector, ...], followed: Bools) -> None:
        approach = np.unique(network.movements.from_lane[network.movements.signal >= 0])
        self._observed, self._rest = (np.zeros(len(network.lanes.ids), np.bool_) for _ in range(2))
        self._observed[[d.lane for d in detectors if d.role == "stop"]] = True
        self._observed[approach[followed[approach]]] = True
        self._rest[approach] = ~self._observed[approach] & network.lanes.motor[approach]
        self._driven = network.edges.lane_count > 0
        self._truths: deque[Truth] = deque()

    def add(self, states: dict[str, NetworkState], truth: Truth, errors: dict[str, Errors], at_s: float) -> None:
        """One cycle, `at_s` seconds after the begin."""
        self._truths.append(truth)
        while truth.now_s - self._truths[0].now_s >= WINDOW_S:
            self._truths.popleft()
        if at_s < WARM_UP_S + WINDOW_S:
            return
        if at_s % QUEUE_EVERY_S == 0:
            for name, state in states.items():
                for what, lanes in (("observed", self._observed), ("unobserved", self._rest)):
                    errors[name].add(f"queue, {what}", state.lane_queue_veh, truth.lane_queue_veh, lanes)
        if at_s % WINDOW_S == 0:
            flow, speed, samples = over_window(self._truths)
            speed = np.where(samples >= LEAST_SAMPLES, speed, np.nan)
            for name, state in states.items():
                known = state.edge_flow_vps.valid & self._driven
                apart = geh(state.edge_flow_vps.value[known] * 3600.0, flow[known] * 3600.0)
                errors[name].near.append((apart < 5.0).astype(float))
                errors[name].known.append(known[self._driven])
                errors[name].add("flow", state.edge_flow_vps, flow, self._driven)
                errors[name].add("speed", state.edge_speed_mps, speed, self._driven)


def drive(
    city: CityFolder, network: Network, detectors: tuple[Detector, ...], *, seed: int, seconds: float
) -> Iterator[tuple[float, Batches, Truth]]:
    """The street under its own signals, second by second: epoch, what became known, what is true."""
    inbox = Inbox(network, detectors)
    with VirtualCity(city, StreetOptions(seed, seconds, city.coverage)) as street:
        now_s = city.epoch_s
        while now_s < city.epoch_s + seconds:
            now_s += 1.0
            street.advance(now_s)
            report = street.collect(120.0)
            for frame in report.frames:
                inbox.offer(frame, now_s)
            if report.truth is not None:
                yield now_s, inbox.take(now_s), report.truth


def measure(city: CityFolder, seeds: list[int], seconds: float) -> dict[str, dict[str, float | None]]:
    network = load_network(city)
    detectors = tuple(find_detectors(network, city.coverage))
    instrumented = instrumented_signals(network, city.coverage)
    followed = np.zeros(len(network.lanes.ids), np.bool_)
    followed[network.movements.from_lane[np.isin(network.movements.signal, instrumented)]] = True
    prior = build_prior(city, network, cache=None)
    errors = {name: Errors() for name in SEES}
    for seed in seeds:
        fusions = {
            "fused": Fusion(network, detectors, instrumented, prior),
            "without mirror": Fusion(network, detectors, instrumented, prior),
            "sensors only": Fusion(network, detectors, instrumented, None),
            "prior only": Fusion(network, detectors, instrumented, prior),
        }
        silence = Inbox(network, detectors)
        judge = Judge(network, detectors, followed)
        print(f"seed {seed}: {seconds:.0f} s of {city.name}", file=sys.stderr, flush=True)
        with closing(Mirror(city, network, detectors=detectors)) as mirror:
            mirror.start()
            for now_s, batches, truth in drive(city, network, detectors, seed=seed, seconds=seconds):
                states = {}
                for name, fusion in fusions.items():
                    heard = silence.take(now_s) if name == "prior only" else batches
                    view = mirror.latest() if name == "fused" else None
                    began = time.process_time()
                    states[name] = fusion.update(heard, now_s, view)
                    errors[name].spent_ms.append((time.process_time() - began) * 1e3)
                at_s = round(now_s - city.epoch_s)
                judge.add(states, truth, errors, at_s)
                if at_s % MIRROR_EVERY_S == 0:
                    mirror.assimilate(states["fused"])
                    if not mirror.wait(MIRROR_TIMEOUT_S):
                        raise ProcessError(f"mirror: {mirror.failure or 'too slow'}")
    return {name: errors[name].table() for name in SEES}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--city", default="zone", help="bundled city or city folder, where no --net is given")
    parser.add_argument("--net", type=Path)
    parser.add_argument("--routes", default="", help="route and additional files, by commas")
    parser.add_argument("--begin", type=float, default=0.0)
    parser.add_argument("--end", type=float, default=3600.0)
    parser.add_argument("--seconds", type=float, help="shorter than to the end")
    parser.add_argument("--seeds", default="1-3")
    default = Coverage()
    parser.add_argument("--loops", type=float, default=default.loops)
    parser.add_argument("--roadside", type=float, default=default.roadside)
    parser.add_argument("--equipped", type=float, default=default.equipped)
    parser.add_argument("--json", action="store_true")
    order = parser.parse_args()
    if order.net is None:
        city = find_city(order.city)
    else:
        files = tuple(Path(name) for name in order.routes.split(",") if name)
        demand = tuple(file for file in files if holds_demand(file))
        others = tuple(file for file in files if file not in demand)
        midnight_s = DEFAULT_EPOCH.timestamp() - 8 * 3600.0
        city = ScenarioFiles(order.net, demand, others, order.begin, order.end).city(epoch_of_zero_s=midnight_s)
    city = replace(city, coverage=Coverage(order.loops, order.roadside, order.equipped))
    seconds = min(order.seconds or np.inf, city.end_s - city.begin_s)
    seeds = parse_seeds(order.seeds)
    table = measure(city, seeds, seconds)
    document = {"city": city.name, "seconds": seconds, "seeds": seeds, "wanted": WANTED, "states": table}
    if order.json:
        print(json.dumps(document))
        return
    print(f"{city.name}, {seconds:.0f} s, seeds {order.seeds}")
    for measure_name in table[SEES[0]]:
        cells = (table[name][measure_name] for name in SEES)
        print(f"{measure_name:24s}" + "".join(f"{'-' if c is None else f'{c:.3f}':>14s}" for c in cells))


if __name__ == "__main__":
    main()
