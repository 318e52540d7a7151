"""How well the loop's forecaster foresees link flow and travel time, with and without what is announced.

    python benchmarks/loop_forecast.py --city zone --seconds 3600 --seeds 1 --json

The street runs under its own signals; its sensors are fused as in the live loop, and every minute the forecaster of
the loop is asked, beside profile and persistence. On each day a busy link is closed and it rains for a while, both
announced in the second minute. "known" forecasts may use the announcements, "unknown" ones not; both see the same
readings. Errors are against the street's truth, over five minutes that end 5, 15, 30 and 60 minutes ahead, in veh and
s; travel times only where enough vehicles drove. `usual` targets lie outside all events, `closure` ones are links
within two of the closed one while it is closed, `rain` ones all links while it rains and nothing is closed. The
closed link itself counts for flow alone. The street's drivers mind rain by a factor that the twin does not know.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from referee_runs import parse_seeds

from forecasting.registry import Registry
from forecasting.serve import Forecaster
from forecasting.windows import HistoryBuffer
from networks.batches import Batches
from networks.graph import Bools, Floats
from networks.messages import NoticeReport
from networks.state import QUANTILES
from scenarios.cities import find_city
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
CLOSED_S, RAIN_S = (1200.0, 2400.0), (2400.0, 3300.0)
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


def drive(model: CityModel, options: StreetOptions) -> Iterator[tuple[float, Batches, Truth]]:
    """The street under its own signals: epoch, what became known, what is true."""
    inbox = Inbox(model.network, model.detectors)
    with VirtualCity(model.folder, options) as street:
        now_s = model.folder.epoch_s
        while now_s < model.folder.epoch_s + options.duration_s - 1e-6:
            now_s += STEP_S
            street.advance(now_s)
            report = street.collect(600.0)
            for frame in report.frames:
                inbox.offer(frame, now_s)
            if report.truth is not None:
                yield now_s, inbox.take(now_s), report.truth


class Judge:
    """Keeps forecasts until their five minutes are over."""

    def __init__(self, model: CityModel, closed: int, *, closure: bool, rain: bool) -> None:
        self._length_m = model.network.edges.length_m
        self._near, self._closed = links_near(model, closed), closed
        self._closure, self._rain = closure, rain
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
        if self._closure and begin >= CLOSED_S[0] and end <= CLOSED_S[1]:
            itself = np.arange(len(everywhere)) == self._closed
            return {"closure": self._near | itself}
        if self._rain and begin >= RAIN_S[0] and end <= RAIN_S[1]:
            return {"rain": everywhere}
        before = CLOSED_S[0] if self._closure else RAIN_S[0] if self._rain else np.inf
        return {"usual": everywhere} if end <= before else {}


def live_through(
    model: CityModel, seed: int, seconds: float, *, closure: bool, rain: bool
) -> tuple[Judge, list[float], list[str]]:
    """One day: its judge, the time of each forecast in ms, and what the forecaster had to say."""
    folder, network = model.folder, model.network
    closed = closed_edge(model, seed)
    notice = NoticeReport(
        measured_at=folder.epoch_s + 60.0, id="closure", edge=network.edges.ids[closed],
        begin=folder.epoch_s + CLOSED_S[0], end=folder.epoch_s + CLOSED_S[1],
    )  # fmt: skip
    options = StreetOptions(
        seed, seconds, folder.coverage, notices=(notice,) if closure else (),
        rain=(RainSpell(RAIN_MM_H, *RAIN_S, foretold_s=60.0),) if rain else (),
    )  # fmt: skip
    fusion = Fusion(network, model.detectors, model.instrumented, model.prior)
    history, judge = HistoryBuffer(len(network.edges.ids)), Judge(model, closed, closure=closure, rain=rain)
    ahead, outlook = Ahead(folder, network, model.prior), None
    free = free_speed_mps(model)
    known, unknown = (Forecaster(free, model.past, model.forecasters) for _ in range(2))
    spent_ms: list[float] = []
    notes: list[str] = []
    for now_s, batches, truth in drive(model, options):
        ahead.note(batches)
        state = fusion.update(batches, now_s, None)
        history.append(state)
        judge.happened(truth)
        if round(now_s - folder.epoch_s) % 60:
            continue
        announced = ahead.announced(now_s)
        if announced and (outlook is None or announced != outlook.announced):
            outlook = ahead.foresee(announced)
        past = history.until(now_s)
        for name, forecaster, change in (
            ("unknown", unknown, None),
            ("known", known, outlook.change if outlook else None),
        ):
            began = time.process_time()
            made = forecaster.predict(past, now_s, change)
            spent_ms.append((time.process_time() - began) * 1e3)
            judge.expect(now_s, name, made.flow_vps[..., MIDDLE], made.speed_mps[..., MIDDLE])
        notes += [f"{round(now_s - folder.epoch_s)} s: {note}" for note in unknown.take_notes()]
        for name, (flow, speed) in unknown.said().items():
            judge.expect(now_s, name, flow, speed)
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
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--seeds", default="1")
    parser.add_argument("--no-closure", action="store_true")
    parser.add_argument("--no-rain", action="store_true")
    parser.add_argument("--models", type=Path, default=Path("models"), help="folder of own models")
    parser.add_argument("--json", action="store_true")
    order = parser.parse_args()
    torch.set_num_threads(1)
    began = time.monotonic()
    folder = find_city(order.city)
    model = build_model(folder, registry=Registry(order.models))
    seconds = min(order.seconds, folder.end_s - folder.begin_s)
    gathered: dict[tuple[str, str, int, str], list[Floats]] = defaultdict(list)
    per_seed, spent, notes = {}, [], []
    for seed in parse_seeds(order.seeds):
        print(f"seed {seed}: {seconds:.0f} s of {folder.name}", file=sys.stderr, flush=True)
        judge, ms, told = live_through(model, seed, seconds, closure=not order.no_closure, rain=not order.no_rain)
        for key, parts in judge.errors.items():
            gathered[key] += parts
        per_seed[seed] = table(judge.errors)
        spent += ms
        notes += told
    document = {
        "city": folder.name,
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
        "wall_s": round(time.monotonic() - began, 1),
    }
    if order.json:
        print(json.dumps(document))
        return
    for row in document["rows"]:
        print("{targets:8s} {quantity:5s} {minutes:3d} min  {forecast:20s} {mae:9.3f}  ({values})".format(**row))
    print(f"forecast: {document['forecast_cpu_ms']} ms of processor time")


if __name__ == "__main__":
    main()
