"""How well road users are followed: MOTA, IDF1 and GOSPA on synthetic roadside units, and on real tracks.

    python benchmarks/tracking.py --seeds 0,1,2 --json

Synthetic: two crossing streets and a third 150 m on, cars and walkers, two units whose sights overlap. Units see with
noise, misses, ghosts and occlusions of a second; some cars tell of themselves as well. Real: tracks of a recorded
junction in the columns of INTERACTION (`--recording FILE.csv[.gz]`), seen by one unit with the same faults.
Judged is what some unit could see, or who tells of himself.
Beside it: what a unit's raw detections alone score when every detection is its own track ("detections").
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import math
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from networks.batches import VEHICLE_KINDS
from twin.track_measures import Moment, TrackScores, score_tracks
from twin.tracking import Tracker

PERIOD_S = 0.1
CAR, WALKER = VEHICLE_KINDS.index("car"), VEHICLE_KINDS.index("pedestrian")
Array = np.ndarray[Any, np.dtype[np.float64]]


class Faults(NamedTuple):
    """What is wrong with a unit."""

    noise_m: float = 0.5
    speed_noise_mps: float = 0.8
    detect: float = 0.9  # probability a frame
    ghosts: float = 0.5  # mean a frame
    occlusions_per_s: float = 0.02  # of each object
    occlusion_s: float = 1.0


class Truth(NamedTuple):
    """Where everybody is at one moment."""

    id: np.ndarray[Any, np.dtype[np.int64]]
    xy_m: Array  # (N, 2)
    v_mps: Array  # (N, 2)
    kind: np.ndarray[Any, np.dtype[np.int32]]


class Unit(NamedTuple):
    x_m: float
    y_m: float
    range_m: float


UNITS = (Unit(0.0, 0.0, 110.0), Unit(150.0, 0.0, 110.0))


def synthetic(seed: int, seconds: float, cars: int, walkers: int) -> list[Truth]:
    """Cars that accelerate, brake, stop and turn on three streets; walkers that cross."""
    rng = np.random.default_rng(seed)
    streets = [((-120.0, -2.0), (1.0, 0.0)), ((270.0, 2.0), (-1.0, 0.0)), ((2.0, -120.0), (0.0, 1.0))]
    streets += [((-2.0, 120.0), (0.0, -1.0)), ((152.0, -120.0), (0.0, 1.0)), ((148.0, 120.0), (0.0, -1.0))]
    count = cars + walkers
    lane = rng.integers(0, len(streets), count)
    start = np.array([streets[k][0] for k in lane])
    along = np.array([streets[k][1] for k in lane])
    walks = np.arange(count) >= cars
    position = rng.uniform(0.0, 250.0, count)
    speed = np.where(walks, rng.uniform(0.8, 1.6, count), rng.uniform(5.0, 14.0, count))
    wished = speed.copy()
    aside = np.where(walks, rng.choice([-8.0, 8.0], count), rng.choice([0.0, 3.2], count))
    moments = []
    for _ in range(round(seconds / PERIOD_S)):
        change = rng.random(count) < 0.02
        stops = rng.random(count) < 0.3
        wished = np.where(change, np.where(stops, 0.0, np.where(walks, 1.2, rng.uniform(4.0, 14.0, count))), wished)
        speed += np.clip(wished - speed, -3.0 * PERIOD_S, 2.0 * PERIOD_S)
        ahead = position[None, :] - position[:, None]
        same = (lane[None, :] == lane[:, None]) & (aside[None, :] == aside[:, None]) & ~walks[None, :]
        gap = np.where(same & (ahead > 0), ahead, np.inf).min(axis=1)
        speed = np.where(~walks, np.clip(np.minimum(speed, (gap - 6.0) / 1.2), 0.0, None), speed)
        position += speed * PERIOD_S
        across = np.stack([along[:, 1], -along[:, 0]], axis=1)
        xy = start + along * position[:, None] + across * aside[:, None]
        present = position < 260.0
        moments.append(
            Truth(
                np.flatnonzero(present).astype(np.int64),
                xy[present],
                (along * speed[:, None])[present],
                np.where(walks, WALKER, CAR)[present].astype(np.int32),
            )
        )
    return moments


def recorded(path: Path) -> list[Truth]:
    """Everybody in a recording in the columns of INTERACTION, every 0.1 s, in metres.

    Velocities are taken from the positions: a recording's own need not agree with them.
    """
    rows: dict[int, list[tuple[int, float, float, float, float]]] = {}
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as stream:
        for row in csv.DictReader(stream):
            walks = row["agent_type"].lower().startswith("pedestrian")
            values = tuple(float(row[name]) for name in ("x", "y", "vx", "vy"))
            rows.setdefault(int(row["timestamp_ms"]), []).append(
                (int(row["track_id"]) * 2 + walks, *values)  # type: ignore[arg-type]
            )
    moments = []
    before: dict[int, Array] = {}
    for stamp in sorted(rows):
        table = np.array(rows[stamp])
        ids = table[:, 0].astype(np.int64)
        moved = [
            (place - before[name]) / PERIOD_S if name in before else speed
            for name, place, speed in zip(ids.tolist(), table[:, 1:3], table[:, 3:5], strict=True)
        ]
        before = dict(zip(ids.tolist(), table[:, 1:3], strict=True))
        kind = np.where(ids % 2 == 1, WALKER, CAR).astype(np.int32)
        moments.append(Truth(ids, table[:, 1:3], np.array(moved), kind))
    return moments


def run(
    truth: list[Truth], units: tuple[Unit, ...], faults: Faults, equipped: float, seed: int
) -> tuple[TrackScores, TrackScores, float]:
    """Scores of the tracker and of bare detections, and microseconds a frame of a unit."""
    rng = np.random.default_rng([seed, 1])
    tracker = Tracker()
    hidden_until: dict[tuple[int, int], float] = {}
    followed: list[Moment] = []
    bare: list[Moment] = []
    spent_s, frames, number = 0.0, 0, 0
    for tick, now in enumerate(truth):
        at_s = 1e9 + tick * PERIOD_S
        reachable = np.zeros(len(now.id), np.bool_)
        detected: list[Array] = []
        for index, unit in enumerate(units):
            within = np.hypot(now.xy_m[:, 0] - unit.x_m, now.xy_m[:, 1] - unit.y_m) <= unit.range_m
            reachable |= within
            seen = np.array([_sees(rng, faults, hidden_until, (index, int(i)), at_s) for i in now.id], np.bool_)
            rows = np.flatnonzero(within & seen)
            found = _detect(rng, now, rows, unit, faults)
            begin_s = time.process_time()
            tracker.see(index, at_s, *found[:, :4].T, found[:, 4].astype(np.int32))
            spent_s += time.process_time() - begin_s
            frames += 1
            detected.append(found)
        for row in np.flatnonzero(now.id % 100 < 100 * equipped):
            if now.kind[row] == CAR and tick % 2 == 0:
                x, y = now.xy_m[row] + rng.normal(0.0, faults.noise_m, 2)
                vx, vy = now.v_mps[row] + rng.normal(0.0, 0.3, 2)
                tracker.hear(int(now.id[row]), at_s, float(x), float(y), float(vx), float(vy), CAR)
                reachable[row] = True
        believed = tracker.tracks(at_s)
        seen_xy = np.stack([believed.x_m, believed.y_m], axis=1)
        judged = believed.vehicle >= 0
        for unit in units:
            judged |= np.hypot(seen_xy[:, 0] - unit.x_m, seen_xy[:, 1] - unit.y_m) <= unit.range_m
        followed.append(Moment(now.id[reachable], now.xy_m[reachable], believed.id[judged], seen_xy[judged]))
        points = np.concatenate(detected)[:, :2]
        names = np.arange(number, number + len(points))
        number += len(points)
        bare.append(Moment(now.id[reachable], now.xy_m[reachable], names, points))
    return score_tracks(followed), score_tracks(bare), spent_s / max(frames, 1) * 1e6


def _sees(
    rng: np.random.Generator,
    faults: Faults,
    hidden_until: dict[tuple[int, int], float],
    who: tuple[int, int],
    at_s: float,
) -> bool:
    if at_s < hidden_until.get(who, -math.inf):
        return False
    if rng.random() < faults.occlusions_per_s * PERIOD_S:
        hidden_until[who] = at_s + faults.occlusion_s
    return bool(rng.random() < faults.detect)


def _detect(rng: np.random.Generator, now: Truth, rows: Any, unit: Unit, faults: Faults) -> Array:
    """Detections (N, 5): x, y, vx, vy, kind; ghosts last."""
    true = np.column_stack([now.xy_m[rows], now.v_mps[rows], now.kind[rows]])
    true[:, :2] += rng.normal(0.0, faults.noise_m, (len(rows), 2))
    true[:, 2:4] += rng.normal(0.0, faults.speed_noise_mps, (len(rows), 2))
    count = rng.poisson(faults.ghosts)
    ghosts = np.column_stack(
        [
            unit.x_m + rng.uniform(-unit.range_m, unit.range_m, count),
            unit.y_m + rng.uniform(-unit.range_m, unit.range_m, count),
            rng.normal(0.0, 5.0, (count, 2)),
            np.full(count, float(CAR)),
        ]
    )
    return np.concatenate([true, ghosts])


def summary(scores: list[TrackScores]) -> dict[str, Any]:
    """Mean and spread (sd) over seeds."""
    table = {
        name: [float(getattr(s, name)) for s in scores] for name in ("mota", "idf1", "gospa_m", "position_rmse_m")
    }
    table["switches_per_1000_objects"] = [1e3 * s.switches / max(s.objects, 1) for s in scores]
    return {name: {"mean": float(np.mean(v)), "sd": float(np.std(v))} for name, v in table.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0,1,2", help="seeds, separated by commas")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--cars", type=int, default=40)
    parser.add_argument("--walkers", type=int, default=10)
    parser.add_argument("--equipped", type=float, default=0.2, help="share of cars that tell of themselves")
    parser.add_argument("--recording", type=Path, help="real tracks instead of synthetic ones")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    args = parser.parse_args()
    own, bare, cost = [], [], []
    for seed in [int(part) for part in args.seeds.split(",")]:
        units = UNITS
        if args.recording:
            truth = recorded(args.recording)
            middle = np.concatenate([moment.xy_m for moment in truth]).mean(axis=0)
            units = (Unit(float(middle[0]), float(middle[1]), 150.0),)
        else:
            truth = synthetic(seed, args.seconds, args.cars, args.walkers)
        tracked, detected, spent_us = run(truth, units, Faults(), 0.0 if args.recording else args.equipped, seed)
        own.append(tracked)
        bare.append(detected)
        cost.append(spent_us)
    result = {"tracker": summary(own), "detections": summary(bare), "us_per_frame": float(np.median(cost))}
    if args.json:
        print(json.dumps(result))
        return
    for who in ("tracker", "detections"):
        shown = ", ".join(f"{name} {v['mean']:.3f} ± {v['sd']:.3f}" for name, v in result[who].items())
        print(f"{who:10} {shown}")
    print(f"{result['us_per_frame']:.0f} us a frame of a unit")


if __name__ == "__main__":
    main()
