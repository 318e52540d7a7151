"""How well the loop's forecaster foresees link flow and travel time, with and without what is announced.

    python benchmarks/loop_forecast.py --city zone --seeds 1-3 --json            # mesoscopic street, minutes
    python benchmarks/loop_forecast.py --city zone --seeds 1-3 --times 3         # an hour ahead needs a longer day
    python benchmarks/loop_forecast.py --city zone --seeds 1 --street micro      # sensors and fusion, hours

The street runs under its own signals and is looked at every minute; then the forecaster of the loop is asked, beside
every producer of its chain. Each seed is driven three times: as a usual day, as one on which a busy link is closed
for a while, and as one on which it rains for a while, each announced in the second minute. "known" forecasts may use
the announcement, "unknown" ones not; both see the same readings. Errors are against the street's truth, over five
minutes that end 5, 15, 30 and 60 minutes ahead, in vehicles and seconds; travel times only where enough vehicles
drove. What is announced lasts from a third to three quarters of the run. `closure` targets are links within two of
the closed one while it is closed (the closed link itself counts for flow alone), `rain` ones all links while it
rains. The street's drivers mind rain by a factor that the twin does not know.

`--street meso`: demand drawn as a virtual city draws it, driven by the mesoscopic model that also drew the past days,
readings without noise: flattering, but quick. `--street micro`: the virtual city, its sensors and the fusion.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from long_day import lengthen
from referee_runs import parse_seeds

from forecasting.registry import Registry
from forecasting.serve import Forecaster
from forecasting.windows import HistoryBuffer
from networks.batches import Batches
from networks.city import CityFolder
from networks.graph import Bools, Floats
from networks.messages import NoticeReport
from networks.state import QUANTILES, Estimate, NetworkState, VehicleTable
from scenarios.announced import Announced, Shower, SlowEdge
from scenarios.cities import find_city
from scenarios.past_days import drive_day
from scenarios.simulation import run_in_process
from scenarios.street import RAIN_SPREAD
from scenarios.street_terms import RainSpell, StreetOptions, Truth
from scenarios.virtual_city import VirtualCity
from twin.ahead import Ahead
from twin.app import PAST_DAYS, CityModel, build_model, free_speed_mps
from twin.fusion import Fusion
from twin.inbox import Inbox
from twin.score import LEAST_SAMPLES, over_window

HORIZONS_MIN = (5, 15, 30, 60)
MIDDLE = QUANTILES.index(0.5)
STEP_S, WINDOW_S = 5.0, 300.0
CRAWL_MPS = 0.5
AFFECTED_FRAC = (1 / 3, 3 / 4)  # of the run: from when until when a link is closed, or it rains
DAYS = ("usual", "closure", "rain")
RAIN_MM_H = 12.0
BUSY_RANK = 20  # the closed link is among so many of the busiest that have another way around
NEAR_LINKS = 2


def closed_edge(model: CityModel, seed: int) -> int:
    """A busy link whose beginning has another way on."""
    network, flow = model.network, model.prior.profile.flow_vps.mean(axis=0)
    onward = np.bincount(network.edges.from_node, minlength=len(network.nodes))
    led_to = np.zeros(len(flow), np.bool_)
    led_to[network.lanes.edge[network.movements.to_lane]] = True
    leads_on = np.zeros(len(flow), np.bool_)
    leads_on[network.lanes.edge[network.movements.from_lane]] = True
    fit = led_to & leads_on & (onward[network.edges.from_node] >= 2)
    busiest = np.argsort(-np.where(fit, flow, -1.0))[:BUSY_RANK]
    return int(np.random.default_rng(seed).choice(busiest))


def links_near(model: CityModel, edge: int) -> Bools:
    """Links within two links of this one, along or against the traffic, without itself."""
    moves, lanes = model.network.movements, model.network.lanes
    start, end = lanes.edge[moves.from_lane], lanes.edge[moves.to_lane]
    near = np.zeros(len(model.network.edges.ids), np.bool_)
    near[edge] = True
    for _ in range(NEAR_LINKS):
        grown = near.copy()
        grown[end[near[start]]] = True
        grown[start[near[end]]] = True
        near = grown
    near[edge] = False
    return near


class Reading(NamedTuple):
    """What the twin knows of a step, and what is true of it."""

    now_s: float
    batches: Batches | None
    state: NetworkState | None
    truth: Truth


def drive_micro(model: CityModel, options: StreetOptions) -> Iterator[Reading]:
    """The virtual city under its own signals, seen by its sensors and fused."""
    inbox = Inbox(model.network, model.detectors)
    fusion = Fusion(model.network, model.detectors, model.instrumented, model.prior)
    with VirtualCity(model.folder, options) as street:
        now_s = model.folder.epoch_s
        while now_s < model.folder.epoch_s + options.duration_s - 1e-6:
            now_s += STEP_S
            street.advance(now_s)
            report = street.collect(600.0)
            for frame in report.frames:
                inbox.offer(frame, now_s)
            batches = inbox.take(now_s)
            if report.truth is not None:
                yield Reading(now_s, batches, fusion.update(batches, now_s, None), report.truth)


def drive_meso(model: CityModel, options: StreetOptions, announced: Announced) -> Iterator[Reading]:
    """The mesoscopic model minute by minute; what it does is what is read."""
    count = int(options.duration_s / 60.0)
    folder = replace(model.folder, end_s=model.folder.begin_s + 60.0 * count)
    run = run_in_process(drive_day, folder, model.network, 60.0, count, options.seed, announced)
    edges = len(model.network.edges.ids)
    for minute in range(count):
        now_s = model.folder.epoch_s + 60.0 * (minute + 1)
        flow, speed = run.flow_vps[minute], run.speed_mps[minute]
        samples = np.round(run.edge_vehicles[minute] * 60.0).astype(np.int32)
        seen = [Estimate(v, np.zeros(edges), np.zeros(edges), np.ones(edges, np.bool_)) for v in (flow, speed)]
        unknown = Estimate.unknown(edges)
        state = NetworkState(now_s, *seen, unknown, unknown, unknown, unknown, VehicleTable.empty(), (), 1.0, ())
        nothing = np.zeros(len(model.network.lanes.ids))
        yield Reading(now_s, None, state, Truth(now_s, 60.0, flow, speed, samples, nothing, nothing))


class Judge:
    """Keeps forecasts until their five minutes are over."""

    def __init__(self, model: CityModel, closed: int, day: str, affected_s: tuple[float, float]) -> None:
        self._length_m = model.network.edges.length_m
        self._near, self._closed = links_near(model, closed), closed
        self._day, self._affected_s = day, affected_s
        self._begin_s = model.folder.epoch_s
        self._truths: list[Truth] = []
        self._waiting: list[tuple[float, int, str, Floats, Floats]] = []
        self.errors: dict[tuple[str, str, int, str], list[Floats]] = defaultdict(list)

    def expect(self, now_s: float, name: str, flow_vps: Floats, speed_mps: Floats) -> None:
        """Medians (12, E) of the forecast made now."""
        for minutes in HORIZONS_MIN:
            row = minutes // 5 - 1
            travel_s = self._length_m / np.maximum(speed_mps[row], CRAWL_MPS)
            self._waiting.append((now_s + 60.0 * minutes, minutes, name, flow_vps[row] * WINDOW_S, travel_s))

    def happened(self, truth: Truth) -> None:
        self._truths.append(truth)
        due = [w for w in self._waiting if w[0] <= truth.now_s + 1e-6]
        if not due:
            return
        self._waiting = [w for w in self._waiting if w[0] > truth.now_s + 1e-6]
        window = [t for t in self._truths if t.now_s > truth.now_s - WINDOW_S + 1e-6]
        flow, speed, samples = over_window(window)
        travel_s = self._length_m / np.maximum(speed, CRAWL_MPS)
        driven = samples >= LEAST_SAMPLES
        for kind, links in self._kinds(truth.now_s).items():
            open_links = links & (np.arange(len(links)) != self._closed)
            for _, minutes, name, expected, expected_s in due:
                self.errors[kind, name, minutes, "flow"].append(np.abs(expected - flow * WINDOW_S)[links])
                timed = open_links & driven
                self.errors[kind, name, minutes, "time"].append(np.abs(expected_s - travel_s)[timed])

    def _kinds(self, at_s: float) -> dict[str, Bools]:
        """What kind of target the five minutes up to now are, and at which links."""
        begin, end = at_s - WINDOW_S - self._begin_s, at_s - self._begin_s
        everywhere = np.ones(len(self._near), np.bool_)
        first, last = (0.0, np.inf) if self._day == "usual" else self._affected_s
        if begin < first or end > last:
            return {}
        links = self._near | (np.arange(len(everywhere)) == self._closed) if self._day == "closure" else everywhere
        return {self._day: links}


def live_through(
    model: CityModel, seed: int, seconds: float, day: str, *, micro: bool
) -> tuple[Judge, list[float], list[str]]:
    """One day: its judge, the time of each forecast in ms, and what the forecaster had to say."""
    folder, network = model.folder, model.network
    closed = closed_edge(model, seed)
    begin_s = folder.epoch_s
    affected_s = (AFFECTED_FRAC[0] * seconds, AFFECTED_FRAC[1] * seconds)
    slow = SlowEdge(closed, 0.0, begin_s + affected_s[0], begin_s + affected_s[1])
    shower = Shower(RAIN_MM_H, begin_s + affected_s[0], begin_s + affected_s[1])
    announced = Announced((slow,) if day == "closure" else (), (shower,) if day == "rain" else ())
    if micro:
        notice = NoticeReport(
            measured_at=begin_s + 60.0, id="closure", edge=network.edges.ids[closed],
            begin=begin_s + affected_s[0], end=begin_s + affected_s[1],
        )  # fmt: skip
        options = StreetOptions(
            seed, seconds, folder.coverage, notices=(notice,) if day == "closure" else (),
            rain=(RainSpell(RAIN_MM_H, *affected_s, foretold_s=60.0),) if day == "rain" else (),
        )  # fmt: skip
        street = drive_micro(model, options)
    else:
        minds = float(np.exp(RAIN_SPREAD * np.random.default_rng(seed).normal()))
        real = replace(announced, rain_strength=minds)
        street = drive_meso(model, StreetOptions(seed, seconds, folder.coverage), real)
    history, judge = HistoryBuffer(len(network.edges.ids)), Judge(model, closed, day, affected_s)
    ahead = Ahead(folder, network, model.prior)
    change = None
    told = Announced()
    free = free_speed_mps(model)
    known, unknown = (Forecaster(free, model.past, model.forecasters) for _ in range(2))
    spent_ms: list[float] = []
    notes: list[str] = []
    for now_s, batches, state, truth in street:
        second = round(now_s - begin_s)
        history.append(state)
        judge.happened(truth)
        if batches is not None:
            ahead.note(batches)
        if second % 60:
            continue
        coming = ahead.announced(now_s) if micro else announced if second >= 120 else Announced()
        if coming and coming != told:
            told, change = coming, ahead.foresee(coming).change
        past = history.until(now_s)
        for name, forecaster, expected in (("unknown", unknown, None), ("known", known, change)):
            if name == "known" and day == "usual":
                continue
            began = time.process_time()
            made = forecaster.predict(past, now_s, expected)
            spent_ms.append((time.process_time() - began) * 1e3)
            judge.expect(now_s, name, made.flow_vps[..., MIDDLE], made.speed_mps[..., MIDDLE])
        notes += [f"seed {seed}, {day}, {second} s: {note}" for note in unknown.take_notes()]
        for name, (flow, speed) in unknown.said().items():
            judge.expect(now_s, name, flow, speed)
        if second % 600 == 0:
            print(f"seed {seed}, {day}: {second} s", file=sys.stderr, flush=True)
    return judge, spent_ms, notes


def table(errors: dict[tuple[str, str, int, str], list[Floats]]) -> list[dict[str, object]]:
    rows = []
    for (kind, name, minutes, quantity), parts in errors.items():
        whole = np.concatenate(parts)
        if len(whole):
            row = {"targets": kind, "forecast": name, "minutes": minutes, "quantity": quantity}
            rows.append({**row, "mae": round(float(whole.mean()), 3), "values": len(whole)})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--city", default="zone", help="bundled city or city folder")
    parser.add_argument("--seconds", type=float, default=math.inf, help="not to the end of the demand")
    parser.add_argument(
        "--times", type=int, default=1, help="how often the city's demand is driven, one after another"
    )
    parser.add_argument("--seeds", default="1")
    parser.add_argument("--days", default=",".join(DAYS), help="kinds of days, by commas")
    parser.add_argument("--street", choices=("meso", "micro"), default="meso")
    parser.add_argument("--models", type=Path, default=Path("models"), help="folder of own models")
    parser.add_argument("--json", action="store_true")
    order = parser.parse_args()
    if not set(order.days.split(",")) <= set(DAYS):
        parser.error(f"--days {order.days}: not all of {', '.join(DAYS)}")
    torch.set_num_threads(1)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        folder = find_city(order.city)
        if order.times > 1:
            folder = lengthen(folder, order.times, Path(scratch))
        document = measure(folder, order)
    document["wall_s"] = round(time.monotonic() - began, 1)
    if order.json:
        print(json.dumps(document))
        return
    for row in document["rows"]:
        print("{targets:8s} {quantity:5s} {minutes:3d} min  {forecast:20s} {mae:9.3f}  ({values})".format(**row))
    print(f"forecast: {document['forecast_cpu_ms']} ms of processor time")


def measure(folder: CityFolder, order: argparse.Namespace) -> dict[str, object]:
    """All seeds and days of a city."""
    model = build_model(folder, registry=Registry(order.models))
    seconds = min(order.seconds, folder.end_s - folder.begin_s)
    gathered: dict[tuple[str, str, int, str], list[Floats]] = defaultdict(list)
    per_seed, spent, notes = {}, [], []
    for seed in parse_seeds(order.seeds):
        per_seed[seed] = []
        for day in order.days.split(","):
            judge, ms, told = live_through(model, seed, seconds, day, micro=order.street == "micro")
            for key, parts in judge.errors.items():
                gathered[key] += parts
            per_seed[seed] += table(judge.errors)
            spent += ms
            notes += told
    return {
        "city": folder.name,
        "street": order.street,
        "seconds": seconds,
        "past_days": len(model.past) and PAST_DAYS,
        "gate": [{"model": m.label, **{q: v.as_dict() for q, v in m.verdicts.items()}} for m in model.forecasters],
        "rows": table(gathered),
        "per_seed": per_seed,
        "forecast_cpu_ms": {
            "p50": round(float(np.percentile(spent, 50)), 1),
            "p99": round(float(np.percentile(spent, 99)), 1),
        },
        "notes": notes,
    }


if __name__ == "__main__":
    main()
