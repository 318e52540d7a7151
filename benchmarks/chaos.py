"""What the twin still knows when devices, lines and processes misbehave: a table, one fault a row.

    python benchmarks/chaos.py --city zone --seconds 900 --seeds 1,2 --json
    python benchmarks/chaos.py --city ../shared/data/networks/bologna_joined --rows honest,lying

A day is driven once a seed, and what its devices sent is put through each fault and through an inbox, fusion and (row
`mirror killed`) a mirror of its own, so that rows differ in the fault alone. Faults begin after five minutes. `lost`
is what the inbox accepted and no batch handed over. Errors are those of `benchmarks/state.py`, from ten minutes on:
share of links with GEH < 5, RMSE of speed, mean error of queues. Of lying loops (biased to a half or twice, stuck,
with the id of another): those named five minutes after they began, with precision and recall over all, and recall
over those that ten vehicles or more passed in these five minutes. `broker restarted` starts a Mosquitto of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

import ingest
import numpy as np
from referee_runs import parse_seeds
from state import WARM_UP_S, Errors, Judge

from networks.city import CityFolder, Coverage, Detector, load_network
from networks.graph import Floats, Network
from networks.messages import Frame
from networks.sensors import find_detectors, instrumented_signals
from scenarios.cities import find_city
from scenarios.prior import Prior, build_prior
from scenarios.street_faults import FaultLine
from scenarios.virtual_city import Faults, StreetOptions, Truth, VirtualCity
from twin.broker import find_tool
from twin.fusion import Fusion
from twin.inbox import Inbox
from twin.mirror import Mirror

FAULTY_FROM_S, FOUND_WITHIN_S, BUSY_VEH = 300.0, 300.0, 10.0
KILLED_AT_S = 450.0
BROKER_FRAMES = 1000
CYCLE_S = 5.0
ROWS: dict[str, Faults] = {
    "honest": Faults(),
    "30 % of loops lying": Faults(lying_frac=0.3, lying_from_s=FAULTY_FROM_S),
    "clocks 5 s off": Faults(skewed_frac=0.3, skew_s=5.0),
    "20 % doubled, 20 % late": Faults(duplicate_frac=0.2, delayed_frac=0.2),
    "garbage at 10 times the rate": Faults(garbage_per_frame=10.0),
    "mirror killed": Faults(),
}


@dataclass
class Day:
    """What one day's devices sent, and what was true, second by second."""

    seed: int
    seconds: list[tuple[float, tuple[Frame, ...], Truth]] = field(default_factory=list)


@dataclass
class Place:
    """A city with all that fusion is made of."""

    city: CityFolder
    network: Network
    detectors: tuple[Detector, ...]
    instrumented: tuple[int, ...]
    prior: Prior

    def fusion(self) -> Fusion:
        return Fusion(self.network, self.detectors, self.instrumented, self.prior)

    def judge(self) -> Judge:
        followed = np.zeros(len(self.network.lanes.ids), np.bool_)
        moves = self.network.movements
        followed[moves.from_lane[np.isin(moves.signal, self.instrumented)]] = True
        return Judge(self.network, self.detectors, followed)


def drive(place: Place, seed: int, seconds: float) -> Day:
    day = Day(seed)
    with VirtualCity(place.city, StreetOptions(seed, seconds, place.city.coverage)) as street:
        now_s = place.city.epoch_s
        while now_s < place.city.epoch_s + seconds:
            now_s += 1.0
            street.advance(now_s)
            report = street.collect(300.0)
            if report.truth is not None:
                day.seconds.append((now_s, report.frames, report.truth))
    return day


def through(day: Day, line: FaultLine) -> Iterator[tuple[float, list[Frame], Truth]]:
    """The day as it arrives over a faulty line: late frames come with the second in which they are received."""
    waiting: list[Frame] = []
    for now_s, frames, truth in day.seconds:
        for frame in frames:
            waiting += line.carry(frame)
        due = [f for f in waiting if f.received_at_s <= now_s]
        waiting = [f for f in waiting if f.received_at_s > now_s]
        yield now_s, sorted(due, key=lambda f: f.received_at_s), truth


def replay(place: Place, day: Day, faults: Faults, errors: Errors, *, mirrored: bool) -> dict[str, Any]:
    """One row of one day."""
    begin_s = place.city.epoch_s
    line = FaultLine(faults, begin_s=begin_s, seed=f"{day.seed}/chaos")
    inbox, fusion, judge = Inbox(place.network, place.detectors), place.fusion(), place.judge()
    handed, named, spent_s, offered = 0, set[str](), 0.0, 0
    passed = np.zeros(len(place.detectors))
    with closing(_Mirrored(place) if mirrored else _Alone()) as mirror:
        for now_s, frames, truth in through(day, line):
            into_s = round(now_s - begin_s)
            began = time.process_time()
            for frame in frames:
                inbox.offer(frame, now_s)
            offered += len(frames)
            batches = inbox.take(now_s)
            handed += sum(
                len(rows)
                for rows in (
                    batches.counts.detector,
                    batches.tracks.x_m,
                    batches.probes.x_m,
                    batches.signals.signal,
                    batches.weather.rain_mm_h,
                )
            )
            state = fusion.update(batches, now_s, mirror.latest())
            spent_s += time.process_time() - began
            mirror.follow(state, into_s)
            judge.add({"fused": state}, truth, {"fused": errors}, into_s)
            if FAULTY_FROM_S <= into_s < FAULTY_FROM_S + FOUND_WITHIN_S:
                passed += _passed(place, truth)
            if into_s == FAULTY_FROM_S + FOUND_WITHIN_S:
                named = {u.partition(": ")[0].removeprefix("loop ") for u in state.unhealthy if u.startswith("loop ")}
    tallies = inbox.tallies
    rows = sum(tallies[name].rows_accepted for name in ("loops", "roadside", "v2x", "signals", "weather"))
    answer: dict[str, Any] = {
        "seed": day.seed,
        "frames": offered,
        "refused": sum(t.frames_refused for t in tallies.values()),
        "accepted_rows": rows,
        "lost": rows - handed - inbox.waiting,
        "cpu_ms_a_second": round(1e3 * spent_s / max(1, len(day.seconds)), 2),
        **mirror.report(),
    }
    if faults.lying_frac:
        answer |= _found(place, line, named, passed)
    elif named:
        answer["named_without_cause"] = len(named)
    return answer


def _passed(place: Place, truth: Truth) -> Floats:
    """Vehicles that passed each loop in a second, about: those that left its edge, evenly over its lanes."""
    edge = place.network.lanes.edge[[d.lane for d in place.detectors]]
    rate = truth.edge_flow_vps * truth.window_s / np.maximum(place.network.edges.lane_count, 1)
    passed: Floats = rate[edge]
    return passed


def _found(place: Place, line: FaultLine, named: set[str], passed: Floats) -> dict[str, Any]:
    liars = set(line.liars.kinds)
    busy = {d.id for d, n in zip(place.detectors, passed, strict=True) if n >= BUSY_VEH}
    kinds = {
        kind: {
            "liars": sum(k == kind for k in line.liars.kinds.values()),
            "found": sum(k == kind and name in named for name, k in line.liars.kinds.items()),
        }
        for kind in ("biased", "stuck", "shuffled")
    }
    return {
        "loops": len(place.detectors),
        "liars": len(liars),
        "named": len(named),
        "precision": len(named & liars) / max(1, len(named)),
        "recall": len(named & liars) / max(1, len(liars)),
        "recall_busy": len(named & liars & busy) / max(1, len(liars & busy)),
        "kinds": kinds,
    }


class _Alone:
    """No mirror."""

    def latest(self) -> None:
        return None

    def follow(self, state: Any, into_s: int) -> None:
        pass

    def report(self) -> dict[str, Any]:
        return {}

    def close(self) -> None:
        pass


class _Mirrored:
    """A mirror that follows every cycle, is killed once, and is restarted by whoever watches it."""

    def __init__(self, place: Place) -> None:
        self._mirror = Mirror(place.city, place.network, detectors=place.detectors)
        self._mirror.start()
        self._back_s, self._killed = float("nan"), False

    def latest(self) -> Any:
        return self._mirror.latest()

    def follow(self, state: Any, into_s: int) -> None:
        if into_s % CYCLE_S:
            return
        if into_s >= KILLED_AT_S and not self._killed:
            self._killed = True
            os.kill(self._mirror.process_id or 0, signal.SIGKILL)
            while self._mirror.alive:
                time.sleep(0.001)
            before, begun = self._mirror.latest(), time.monotonic()
            self._mirror.restart()
            while self._mirror.latest() is before and self._mirror.alive:
                time.sleep(0.005)
            self._back_s = time.monotonic() - begun
        self._mirror.assimilate(state)
        self._mirror.wait(300.0)

    def report(self) -> dict[str, Any]:
        return {"mirror_back_s": round(self._back_s, 2), "mirror_behind_s": self._mirror.behind_s}

    def close(self) -> None:
        self._mirror.close()


def broker_row(network: Network) -> dict[str, Any]:
    """Messages of twenty units over a Mosquitto that is stopped and started when half of them are there."""
    if find_tool("mosquitto") is None:
        return {"note": "not measured: no Mosquitto here"}
    street = argparse.Namespace(units=20, participants=16, vehicles=20, seconds=6)
    messages = ingest.stream(network, ingest.own_numbering(network), street, np.random.default_rng(0))
    return ingest.measure_line(network, messages, BROKER_FRAMES)


def run(place: Place, rows: list[str], seeds: list[int], seconds: float) -> dict[str, Any]:
    errors = {name: Errors() for name in rows}
    answers: dict[str, list[dict[str, Any]]] = {name: [] for name in rows}
    for seed in seeds:
        print(f"seed {seed}: driving {seconds:.0f} s of {place.city.name}", file=sys.stderr, flush=True)
        day = drive(place, seed, seconds)
        for name in rows:
            answers[name].append(replay(place, day, ROWS[name], errors[name], mirrored=name == "mirror killed"))
            print(f"  {name}: {answers[name][-1]}", file=sys.stderr, flush=True)
    return {name: {"errors": errors[name].table(), "days": answers[name]} for name in rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--city", default="zone", help="bundled city or city folder")
    parser.add_argument("--seconds", type=float, default=900.0)
    parser.add_argument("--seeds", default="1,2")
    parser.add_argument("--rows", default=",".join((*ROWS, "broker")), help="by commas, a beginning is enough")
    default = Coverage()
    parser.add_argument("--roadside", type=float, default=default.roadside)
    parser.add_argument("--equipped", type=float, default=default.equipped)
    parser.add_argument("--json", action="store_true")
    order = parser.parse_args()
    if order.seconds < FAULTY_FROM_S + FOUND_WITHIN_S + WARM_UP_S:
        parser.error(f"--seconds {order.seconds:g}: at least {FAULTY_FROM_S + FOUND_WITHIN_S + WARM_UP_S:g}")
    rows = [name for name in ROWS if any(name.startswith(w.strip()) for w in order.rows.split(","))]
    city = replace(find_city(order.city), coverage=Coverage(1.0, order.roadside, order.equipped))
    network = load_network(city)
    place = Place(
        city,
        network,
        tuple(find_detectors(network, city.coverage)),
        instrumented_signals(network, city.coverage),
        build_prior(city, network, cache=None),
    )
    broker = broker_row(network) if "broker" in order.rows else {"note": "not asked for"}
    table = run(place, rows, parse_seeds(order.seeds), order.seconds)
    document = {
        "city": city.name,
        "seconds": order.seconds,
        "seeds": order.seeds,
        "rows": table,
        "broker restarted": broker,
    }
    if order.json:
        print(json.dumps(document))
        return
    print(f"{'broker restarted':30s} {broker}")
    for name, row in table.items():
        e = row["errors"]
        print(f"{name:30s} GEH<5 {e['flow_geh_lt5']:.3f}  speed {e['speed_rmse_mps']:.2f}  {row['days']}")


if __name__ == "__main__":
    main()
