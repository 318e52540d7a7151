"""How far the fused state is from the street, on a virtual city under its shipped signals.

python benchmarks/state_check.py --city ../shared/data/networks/bologna_joined --duration 900 [--cycle 1] [--seed 1]
    [--record FILE]   keep what the street sent and what was true; read it back when the file exists

Prints: queue and vehicle errors on lanes with a stop-line loop, share of links with flow GEH < 5 (300 s windows),
speed RMSE (60 s windows), processor milliseconds an update. The first 300 s are not scored.
"""

from __future__ import annotations

import argparse
import json
import pickle
import time
from collections import deque
from pathlib import Path

import numpy as np

from networks.batches import Batches
from networks.city import CityFolder, load_network
from networks.graph import Floats, Network
from networks.sensors import default_detectors, instrumented_signals
from networks.state import NetworkState
from scenarios.cities import find_city
from scenarios.measures import geh
from scenarios.prior import build_prior
from scenarios.virtual_city import StreetOptions, Truth, VirtualCity
from twin.fusion import Fusion
from twin.inbox import Inbox

WARM_UP_S = 300.0
FLOW_WINDOW_S = 300.0
SPEED_WINDOW_S = 60.0
Cycle = tuple[float, Batches, Truth]


def run_street(city: CityFolder, network: Network, *, seed: int, duration_s: float, cycle_s: float) -> list[Cycle]:
    """Drive the street under its own signals and keep each cycle's batches and truth."""
    inbox = Inbox(network, default_detectors(network, city.coverage))
    cycles: list[Cycle] = []
    with VirtualCity(city, StreetOptions(seed, duration_s, city.coverage)) as street:
        now_s = city.epoch_s
        while now_s < city.epoch_s + duration_s:
            now_s += cycle_s
            street.advance(now_s)
            report = street.collect(120.0)
            for frame in report.frames:
                inbox.offer(frame, now_s)
            if report.truth is not None:
                cycles.append((now_s, inbox.take(now_s), report.truth))
    return cycles


class Score:
    """Errors of the states against the truth beside them."""

    def __init__(self, network: Network, lanes: Floats) -> None:
        self._edge = network.lanes.edge
        self._lanes = np.unique(lanes.astype(np.int64))
        self._edges = np.unique(self._edge[self._lanes])
        self._long = network.lanes.length_m[self._lanes] > 110.0
        self._windows: deque[Truth] = deque()
        self._queue: list[Floats] = []
        self._vehicles: list[Floats] = []
        self._true_queue: list[Floats] = []
        self._true_vehicles: list[Floats] = []
        self._other: list[tuple[float, float]] = []
        self._geh: list[tuple[float, float, float]] = []
        self._speed: list[tuple[float, float]] = []

    def add(self, state: NetworkState, truth: Truth, scored: bool) -> None:
        self._windows.append(truth)
        while truth.now_s - self._windows[0].now_s >= FLOW_WINDOW_S:
            self._windows.popleft()
        if not scored:
            return
        queue = state.lane_queue_veh.value - truth.lane_queue_veh
        vehicles = state.lane_vehicles.value - truth.lane_vehicles
        self._queue.append(queue[self._lanes])
        self._vehicles.append(vehicles[self._lanes])
        self._true_queue.append(truth.lane_queue_veh[self._lanes])
        self._true_vehicles.append(truth.lane_vehicles[self._lanes])
        other = state.lane_vehicles.valid.copy()
        other[self._lanes] = False
        self._other.append((float(np.abs(vehicles[other]).mean()), float(truth.lane_vehicles[other].mean())))
        if round(truth.now_s) % 30 == 0:
            self._add_edges(state, truth)

    def _add_edges(self, state: NetworkState, truth: Truth) -> None:
        span_s = sum(t.window_s for t in self._windows)
        flow = np.sum([t.edge_flow_vps * t.window_s for t in self._windows], axis=0) / span_s * 3600.0
        told = state.edge_flow_vps.value * 3600.0
        apart = geh(told, flow)
        observed = np.zeros(len(flow), np.bool_)
        observed[self._edges] = True
        rest = state.edge_flow_vps.valid & ~observed
        self._geh.append(
            (
                float(np.mean(apart[observed] < 5)),
                float(np.mean(apart[rest] < 5)),
                float(state.edge_flow_vps.valid.mean()),
            )
        )
        recent = [t for t in self._windows if truth.now_s - t.now_s < SPEED_WINDOW_S]
        samples = np.sum([t.edge_samples for t in recent], axis=0)
        total = np.sum([np.nan_to_num(t.edge_speed_mps) * t.edge_samples for t in recent], axis=0)
        driven = samples >= 10
        off = state.edge_speed_mps.value - total / np.maximum(samples, 1)
        rest = driven & ~observed & state.edge_speed_mps.valid
        driven &= observed
        self._speed.append((float(np.mean(off[driven] ** 2)), float(np.mean(off[rest] ** 2))))

    def table(self) -> dict[str, float]:
        queue, vehicles = np.abs(self._queue), np.abs(self._vehicles)
        shares, speed = np.nanmean(self._geh, axis=0), np.sqrt(np.nanmean(self._speed, axis=0))
        return {
            "queue_mean_veh": float(np.mean(self._true_queue)),
            "queue_mae_veh": float(queue.mean()),
            "queue_mae_long_lanes_veh": float(queue[:, self._long].mean()),
            "queue_bias_veh": float(np.mean(self._queue)),
            "vehicles_mean": float(np.mean(self._true_vehicles)),
            "vehicles_mae": float(vehicles.mean()),
            "vehicles_bias": float(np.mean(self._vehicles)),
            "other_lanes_vehicles_mae": float(np.mean(self._other, axis=0)[0]),
            "other_lanes_vehicles_mean": float(np.mean(self._other, axis=0)[1]),
            "flow_geh_lt5_share": float(shares[0]),
            "flow_geh_lt5_share_other_links": float(shares[1]),
            "links_with_flow_share": float(shares[2]),
            "speed_rmse_mps": float(speed[0]),
            "speed_rmse_other_links_mps": float(speed[1]),
        }

    def worst(self, network: Network, count: int) -> list[str]:
        """Lanes with the largest queue errors: id, length, true queue, error, vehicle bias."""
        error, bias = np.abs(self._queue).mean(axis=0), np.mean(self._vehicles, axis=0)
        rows = []
        for k in np.argsort(-error)[:count]:
            lane = self._lanes[k]
            rows.append(
                f"{network.lanes.ids[lane]:>20s} {network.lanes.length_m[lane]:6.0f} m  "
                f"queue {np.mean(self._true_queue, axis=0)[k]:5.1f}  error {error[k]:5.2f}  "
                f"vehicles {np.mean(self._true_vehicles, axis=0)[k]:5.1f}  bias {bias[k]:+6.2f}"
            )
        return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--city", default="zone")
    parser.add_argument("--duration", type=float, default=900.0)
    parser.add_argument("--cycle", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--record", type=Path)
    parser.add_argument("--no-prior", action="store_true")
    parser.add_argument("--worst", type=int, default=8)
    options = parser.parse_args()
    city = find_city(options.city)
    network = load_network(city)
    if options.record and options.record.exists():
        cycles: list[Cycle] = pickle.loads(options.record.read_bytes())
    else:
        cycles = run_street(city, network, seed=options.seed, duration_s=options.duration, cycle_s=options.cycle)
        if options.record:
            options.record.write_bytes(pickle.dumps(cycles))
    prior = None if options.no_prior else build_prior(city, network, cache=None)
    detectors = default_detectors(network, city.coverage)
    fusion = Fusion(network, detectors, instrumented_signals(network, city.coverage), prior)
    score = Score(network, np.array([d.lane for d in detectors if d.role == "stop"], dtype=np.float64))
    spent_ms = []
    state = None
    for now_s, batches, truth in cycles:
        began = time.process_time()
        state = fusion.update(batches, now_s, None)
        spent_ms.append((time.process_time() - began) * 1e3)
        score.add(state, truth, now_s - cycles[0][0] >= WARM_UP_S)
    table = score.table() | dict(
        zip(("update_ms_p50", "update_ms_p99"), np.percentile(spent_ms[3:], [50, 99]).tolist(), strict=True)
    )
    print(json.dumps({k: round(v, 3) for k, v in table.items()}, indent=1))
    print("\n".join(score.worst(network, options.worst)))
    if state is not None:
        print("unhealthy:", *state.unhealthy, sep="\n  ")


if __name__ == "__main__":
    main()
