"""How well and how fast positions are matched to lanes, from dense to sparse.

    python benchmarks/map_matching.py --city zone --seeds 0,1,2 --json

Vehicles drive random ways through a network at the limit, slowed by turns and stops; every so many seconds they tell
their position with noise. Scored is the share of positions whose edge (and lane) is the true one, positions inside
junctions left out, and what one position costs. Beside it: the nearest lane, which is what one position alone tells.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from typing import Any, NamedTuple

import numpy as np

from networks.city import load_network
from networks.graph import Network
from scenarios.cities import find_city
from twin.map_matching import MapMatcher, MatcherSettings

TICK_S = 1.0


class Told(NamedTuple):
    at_s: float
    x_m: float
    y_m: float
    heading_rad: float
    speed_mps: float
    lane: int  # the true one


def drive(network: Network, rng: np.random.Generator, seconds: int) -> list[Told]:
    """A way through the network, one exact position a second; positions inside junctions are not told."""
    lanes, moves = network.lanes, network.movements
    rows = network.lane_movements
    open_lane = lanes.motor
    starts = np.flatnonzero(open_lane & (np.diff(rows.offsets) > 0))
    lane = int(rng.choice(starts))
    along, told, inside_s = 0.0, [], 0.0
    speed = float(lanes.speed_limit_mps[lane])
    stopped_s = 0.0
    for second in range(seconds):
        if inside_s > 0.0:
            inside_s -= TICK_S
            continue
        told.append(_told(network, lane, along, speed if stopped_s <= 0 else 0.0, second * TICK_S))
        if stopped_s > 0:
            stopped_s -= TICK_S
            continue
        speed = float(lanes.speed_limit_mps[lane]) * rng.uniform(0.6, 1.0)
        along += speed * TICK_S
        if along > lanes.length_m[lane]:
            onward = [int(m) for m in rows[lane] if open_lane[moves.to_lane[int(m)]] and moves.turn[int(m)] != 3]
            if not onward:
                break
            move = int(rng.choice(onward))
            over = along - float(lanes.length_m[lane]) - float(moves.length_m[move])
            lane = int(moves.to_lane[move])
            inside_s = math.floor(max(-over, 0.0) / max(speed, 1.0))
            along = max(over, 0.0)
            stopped_s = float(rng.integers(5, 30)) if rng.random() < 0.3 else 0.0
        elif rng.random() < 0.05:
            lane = _beside(network, lane, rng)
    return told


def _told(network: Network, lane: int, along: float, speed: float, at_s: float) -> Told:
    shape = np.reshape(network.lanes.shape_xy[lane], (-1, 2)).astype(np.float64)
    steps = np.hypot(*np.diff(shape, axis=0).T)
    at_m = np.concatenate([[0.0], np.cumsum(steps)])
    drawn = along / max(float(network.lanes.length_m[lane]), 1e-6) * at_m[-1]
    leg = min(int(np.searchsorted(at_m, drawn, side="right")) - 1, len(steps) - 1)
    heading = math.atan2(*(shape[leg + 1] - shape[leg])[::-1])
    x, y = (float(np.interp(drawn, at_m, shape[:, axis])) for axis in range(2))
    return Told(at_s, x, y, heading, speed, lane)


def _beside(network: Network, lane: int, rng: np.random.Generator) -> int:
    edge = network.lanes.edge[lane]
    first, end = network.edges.first_lane[edge], network.edges.first_lane[edge + 1]
    drivable = network.lanes.motor
    beside = [k for k in (lane - 1, lane + 1) if first <= k < end and drivable[k] and len(network.lane_movements[k])]
    return int(rng.choice(beside)) if beside else lane


def noisy(told: Told, rng: np.random.Generator, noise_m: float) -> Told:
    x, y = rng.normal([told.x_m, told.y_m], noise_m)
    return told._replace(x_m=float(x), y_m=float(y), heading_rad=told.heading_rad + float(rng.normal(0.0, 0.15)))


def measure(
    network: Network, seed: int, every_s: int, noise_m: float, vehicles: int, seconds: int
) -> dict[str, float]:
    """Shares of positions on the right edge and lane, by the matcher and by the nearest lane alone; us a position."""
    rng = np.random.default_rng(seed)
    spread = {"position_m": noise_m, "reach_m": 5.0 * noise_m}
    matcher = MapMatcher(network, MatcherSettings(**spread))
    alone = MapMatcher(network, MatcherSettings(**spread, lag=0, pause_s=0.0))
    edge_of = network.lanes.edge
    right = {"edge": 0, "lane": 0, "nearest_edge": 0, "nearest_lane": 0}
    count, spent_s, matched = 0, 0.0, 0
    for vehicle in range(vehicles):
        way = [noisy(one, rng, noise_m) for one in drive(network, rng, seconds) if one.at_s % every_s == 0]
        true = {one.at_s: one.lane for one in way}
        matches = []
        begin = time.process_time()
        for one in way:
            matches += matcher.note(vehicle, *one[:5])
        matches += matcher.finish(vehicle)
        spent_s += time.process_time() - begin
        for one in way:
            for match in alone.note(vehicle, *one[:5]):
                right["nearest_edge"] += int(edge_of[match.lane] == edge_of[one.lane])
                right["nearest_lane"] += int(match.lane == one.lane)
        alone.finish(vehicle)
        for match in matches:
            right["edge"] += int(edge_of[match.lane] == edge_of[true[match.at_s]])
            right["lane"] += int(match.lane == true[match.at_s])
        count += len(way)
        matched += len(matches)
    return {name: hits / max(count, 1) for name, hits in right.items()} | {
        "matched": matched / max(count, 1),
        "us_per_position": spent_s / max(count, 1) * 1e6,
        "positions": float(count),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--city", default="zone", help="bundled city or folder")
    parser.add_argument("--seeds", default="0,1,2", help="seeds, separated by commas")
    parser.add_argument("--every", default="1,5,15,30,60", help="seconds between positions, separated by commas")
    parser.add_argument("--noise", type=float, default=5.0, help="sigma of a position, m")
    parser.add_argument("--vehicles", type=int, default=20)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--json", action="store_true", help="one JSON document")
    args = parser.parse_args()
    network = load_network(find_city(args.city))
    measure(network, 0, 5, args.noise, 1, 30)  # compiles
    result: dict[str, Any] = {}
    for every_s in [int(part) for part in args.every.split(",")]:
        runs = [
            measure(network, int(seed), every_s, args.noise, args.vehicles, args.seconds)
            for seed in args.seeds.split(",")
        ]
        result[f"{every_s} s"] = {
            name: {"mean": float(np.mean([r[name] for r in runs])), "sd": float(np.std([r[name] for r in runs]))}
            for name in runs[0]
        }
    if args.json:
        print(json.dumps(result))
        return
    for every, scores in result.items():
        print(f"{every:>5}  " + ", ".join(f"{name} {v['mean']:.3f} ± {v['sd']:.3f}" for name, v in scores.items()))


if __name__ == "__main__":
    main()
