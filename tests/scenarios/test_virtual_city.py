"""The virtual city seen from outside: its frames, its lamps, its death and return."""

from __future__ import annotations

import hashlib
import json
import os
import signal as signals_of_unix
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from networks.city import CityFolder, Coverage
from networks.errors import ProcessError
from networks.graph import Network
from networks.messages import (
    Frame,
    GuidanceOrder,
    LampStepOrder,
    LoopReport,
    NoticeReport,
    ObjectList,
    PlanOrder,
    PlanReceipt,
    RouteAdvice,
    SignalReport,
    SpeedAdvice,
    VehicleReport,
    WeatherReport,
    pack_order,
)
from networks.sensors import find_detectors, instrumented_signals
from scenarios.demand import perturb_demand, read_schedule
from scenarios.measures import TripSummary
from scenarios.rivals import run_rival
from scenarios.simulation import RunSpec, run_in_process
from scenarios.virtual_city import Faults, SensorNoise, StreetOptions, StreetReport, VirtualCity
from tests.scenarios.sumo_lamps import watch_lamps

MODELS = {
    "loops": LoopReport,
    "roadside": ObjectList,
    "v2x": VehicleReport,
    "signals": SignalReport,
    "control": NoticeReport,
    "weather": WeatherReport,
    "receipts": PlanReceipt,
}
EXACT = SensorNoise(
    loop_miss_frac=0.0,
    roadside_sigma_m=0.0,
    roadside_miss_frac=0.0,
    roadside_false_per_s=0.0,
    roadside_dropouts_per_h=0.0,
    v2x_sigma_m=0.0,
    v2x_loss_frac=0.0,
)
ALL = Coverage(loops=1.0, roadside=1.0, equipped=1.0)


class Run(NamedTuple):
    reports: list[StreetReport]
    summary: TripSummary

    @property
    def frames(self) -> list[Frame]:
        return [f for report in self.reports for f in report.frames]

    def of(self, feed: str) -> Iterator[tuple[Frame, dict]]:
        return ((f, json.loads(f.payload)) for f in self.frames if f.feed == feed)


def run(city: CityFolder, options: StreetOptions, orders: dict[int, Sequence[bytes]] | None = None) -> Run:
    """Run to the end in cycles of 5 s; `orders` by cycle second."""
    reports = []
    with VirtualCity(city, options) as street:
        for second in range(0, round(options.duration_s), 5):
            street.advance(city.epoch_s + second + 5, (orders or {}).get(second, ()))
            reports.append(street.collect(60.0))
        return Run(reports, street.finish())


def ask(street: VirtualCity, until_s: float) -> StreetReport:
    street.advance(until_s)
    return street.collect(60.0)


def options(city: CityFolder, **changes: object) -> StreetOptions:
    return replace(StreetOptions(seed=5, duration_s=300.0, coverage=city.coverage), **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def plain(tiny_city: CityFolder) -> Run:
    return run(tiny_city, options(tiny_city))


@pytest.fixture(scope="module")
def exact(tiny_city: CityFolder) -> Run:
    return run(tiny_city, options(tiny_city, noise=EXACT, coverage=ALL))


@pytest.fixture(scope="module")
def noisy(tiny_city: CityFolder) -> Run:
    noise = replace(EXACT, v2x_sigma_m=1.0, roadside_miss_frac=0.1, roadside_false_per_s=0.2)
    return run(tiny_city, options(tiny_city, noise=noise, coverage=ALL))


def digest(frames: Sequence[Frame]) -> str:
    return hashlib.sha256(repr(frames).encode()).hexdigest()


def test_every_frame_passes_the_border(plain: Run, tiny_city: CityFolder) -> None:
    seen = set()
    for frame in plain.frames:
        MODELS[frame.feed].model_validate_json(frame.payload)
        seen.add(frame.feed)
    assert seen == {"loops", "roadside", "v2x", "signals", "weather"}
    assert {f.source for f in plain.frames if f.feed == "loops"} == {"A0", "A1", "B0", "B1", "C0", "C1"}
    assert len({f.source for f in plain.frames if f.feed == "roadside"}) == 3


def test_frames_come_once_received_and_count_up_by_one(plain: Run) -> None:
    before_s = -np.inf
    for report in plain.reports:
        arrivals = [f.received_at_s for f in report.frames]
        assert arrivals == sorted(arrivals)
        assert all(before_s < a <= report.now_s for a in arrivals)
        before_s = report.now_s
    counters = defaultdict(list)
    for frame in plain.frames:
        assert frame.received_at_s > frame.sent_at_s
        counters[frame.feed, frame.source].append(frame.counter)
    for numbers in counters.values():
        assert sorted(numbers) == list(range(len(numbers)))


def test_equal_seeds_send_equal_frames(plain: Run, tiny_city: CityFolder) -> None:
    again = run(tiny_city, options(tiny_city, duration_s=60.0))
    other = run(tiny_city, options(tiny_city, duration_s=20.0, seed=6))
    first = [f for report in plain.reports[:12] for f in report.frames]
    assert digest(again.frames) == digest(first)
    assert digest(other.frames) != digest([f for report in plain.reports[:4] for f in report.frames])


def test_vehicles_are_conserved(plain: Run) -> None:
    summary = plain.summary
    assert summary.vehicles == summary.arrived + summary.running + summary.never_inserted > 60
    assert summary.teleports == summary.collisions == 0
    assert summary.running == pytest.approx(plain.reports[-1].truth.lane_vehicles.sum(), abs=8)  # in junctions


def test_stop_loops_count_what_leaves_the_edge(exact: Run, tiny_network: Network) -> None:
    lane_of = {d.id: d.lane for d in find_detectors(tiny_network, ALL) if d.role == "stop"}
    counted, left = np.zeros(len(tiny_network.edges.ids)), np.zeros(len(tiny_network.edges.ids))
    for _, report in exact.of("loops"):
        for reading in report["readings"]:
            if reading["detector"] in lane_of:
                counted[tiny_network.lanes.edge[lane_of[reading["detector"]]]] += reading["count"]
    for report in exact.reports:
        left += report.truth.edge_flow_vps * report.truth.window_s
    edges = sorted({int(tiny_network.lanes.edge[lane]) for lane in lane_of.values()})
    assert left[edges].sum() > 100
    assert np.abs(counted - left)[edges].max() <= 2  # the last may stand on the loop


def test_positions_scatter_as_stated(exact: Run, noisy: Run) -> None:
    true = {(f.source, f.sent_at_s): (r["x_m"], r["y_m"]) for f, r in exact.of("v2x")}
    told = {(f.source, f.sent_at_s): (r["x_m"], r["y_m"]) for f, r in noisy.of("v2x")}
    error_m = np.array([np.subtract(told[k], true[k]) for k in true.keys() & told.keys()])
    assert len(error_m) > 3000
    assert error_m.std(axis=0) == pytest.approx([1.0, 1.0], rel=0.05)
    assert error_m.mean(axis=0) == pytest.approx([0.0, 0.0], abs=0.1)


def test_roadside_units_miss_and_invent_as_stated(exact: Run, noisy: Run) -> None:
    true = {(f.source, f.sent_at_s): r["objects"] for f, r in exact.of("roadside")}
    kept = ghosts = 0
    for frame, report in noisy.of("roadside"):
        places = {(o["x_m"], o["y_m"]) for o in true.get((frame.source, frame.sent_at_s), ())}
        real = sum((o["x_m"], o["y_m"]) in places for o in report["objects"])
        kept, ghosts = kept + real, ghosts + len(report["objects"]) - real
    assert kept / sum(map(len, true.values())) == pytest.approx(0.9, abs=0.02)
    assert ghosts / len(true) == pytest.approx(0.2, rel=0.2)


def test_objects_lie_within_range(exact: Run, tiny_network: Network) -> None:
    for _, report in exact.of("roadside"):
        middle = tiny_network.node_xy[tiny_network.node_index[report["junction"]]]
        for thing in report["objects"]:
            assert np.hypot(thing["x_m"] - middle[0], thing["y_m"] - middle[1]) <= 120.01
    assert len(instrumented_signals(tiny_network, ALL)) == 6


def lamps_by_second(result: Run, city: CityFolder) -> dict[int, dict[str, str]]:
    shown: dict[int, dict[str, str]] = defaultdict(dict)
    for _, report in result.of("signals"):
        shown[round(report["measured_at"] - city.epoch_s)][report["junction"]] = report["state"]
    return shown


def test_without_orders_lamps_are_those_of_sumo(plain: Run, tiny_city: CityFolder) -> None:
    real = run_in_process(watch_lamps, RunSpec(tiny_city.network, ()), 300)
    shown = lamps_by_second(plain, tiny_city)
    assert [shown[second] for second in range(299)] == real[:299]


def test_without_orders_lamps_of_a_real_city_are_those_of_sumo(bologna: CityFolder) -> None:
    result = run(bologna, StreetOptions(seed=1, duration_s=60.0, coverage=Coverage(0.0, 0.0, 0.0)))
    spec = RunSpec(bologna.network, (), (*bologna.additional, *bologna.programmes))
    real = run_in_process(watch_lamps, spec, 59)
    shown = lamps_by_second(result, bologna)
    assert [shown[second] for second in range(59)] == real
    rival = run_rival(bologna, "shipped", StreetOptions(seed=1, duration_s=60.0, coverage=Coverage()))
    assert rival == replace(result.summary, sent={})


def plan(network: Network, city: CityFolder, *, version: int, valid_from_s: int, green_s: float) -> PlanOrder:
    signal = network.signals[0]
    states = [p.state for p in signal.programme.phases]
    return PlanOrder(
        junction=signal.id,
        plan_version=version,
        valid_from=city.epoch_s + valid_from_s,
        valid_until=city.epoch_s + valid_from_s + 600,
        repeats=True,
        steps=tuple(
            LampStepOrder(state=s, duration_s=3.0 if "y" in s else green_s) for s in (states[0], *states[1:])
        ),
    )


def test_a_plan_rules_until_silence_then_the_own_programme_returns(
    plain: Run, tiny_city: CityFolder, tiny_network: Network
) -> None:
    order = plan(tiny_network, tiny_city, version=7, valid_from_s=6, green_s=12.0)
    again = pack_order(order)
    result = run(tiny_city, options(tiny_city, noise=EXACT), {s: [again] for s in range(5, 65, 5)})
    name = order.junction
    versions = {
        round(r["measured_at"] - tiny_city.epoch_s): r["plan_version"]
        for _, r in result.of("signals")
        if r["junction"] == name
    }
    assert all(versions[s] == -1 for s in range(6))
    assert all(versions[s] == 7 for s in range(6, 70))  # last word at 60, silence from 70 on
    assert all(versions[s] == -1 for s in range(70, 299))
    shown, own = lamps_by_second(result, tiny_city), lamps_by_second(plain, tiny_city)
    assert shown[6 + 12][name] == tiny_network.signals[0].programme.phases[1].state
    assert [shown[s][name] for s in range(180, 299)] == [own[s][name] for s in range(180, 299)]
    receipts = [r for _, r in result.of("receipts")]
    assert len(receipts) == 12
    assert all(r["accepted"] for r in receipts)
    assert result.summary.safety_violations == 0


def test_bad_orders_are_refused_and_counted(tiny_city: CityFolder, tiny_network: Network) -> None:
    good = plan(tiny_network, tiny_city, version=1, valid_from_s=6, green_s=12.0)
    wrong = good.model_copy(update={"steps": (LampStepOrder(state="GG", duration_s=9.0),)})
    lost = good.model_copy(update={"junction": "nowhere"})
    orders = [b"{", pack_order(wrong), pack_order(lost)]
    result = run(tiny_city, options(tiny_city, duration_s=20.0), {5: orders})
    receipts = [r for _, r in result.of("receipts")]
    assert [(r["junction"], r["accepted"]) for r in receipts] == [(good.junction, False)]
    assert result.summary.sent["malformed orders"] == result.summary.sent["orders to nowhere"] == 1


def test_a_killed_street_is_noticed_and_comes_back(plain: Run, tiny_city: CityFolder) -> None:
    wanted = options(tiny_city)
    frames: list[Frame] = []
    with VirtualCity(tiny_city, wanted) as street:
        now_s = tiny_city.epoch_s
        while now_s < tiny_city.epoch_s + 200:
            street.advance(now_s + 5)
            report = street.collect(60.0)
            frames += report.frames
            now_s = report.now_s
        assert street.process_id is not None
        os.kill(street.process_id, signals_of_unix.SIGKILL)
        with pytest.raises(ProcessError, match="died"):
            ask(street, now_s + 5)
        assert not street.alive
        with pytest.raises(ProcessError):
            ask(street, now_s + 10)
        street.restart(now_s + 30)
        assert street.alive
        later: list[Frame] = []
        finished = False
        while not finished:
            street.advance(now_s + 35)
            report = street.collect(60.0)
            later, now_s, finished = [*later, *report.frames], report.now_s, report.finished
        summary = street.finish()
    assert min(f.sent_at_s for f in later) >= tiny_city.epoch_s + 230 - 1
    known = {(f.feed, f.source, f.counter) for f in frames}
    assert not any((f.feed, f.source, f.counter) in known for f in later)
    counted = (summary.vehicles, summary.arrived, summary.running, summary.never_inserted)
    whole = plain.summary
    assert counted == (whole.vehicles, whole.arrived, whole.running, whole.never_inserted)
    assert summary.mean_delay_s == pytest.approx(whole.mean_delay_s, abs=0.5)


def test_rivals_see_the_same_vehicles(plain: Run, tiny_city: CityFolder) -> None:
    shipped = run_rival(tiny_city, "shipped", options(tiny_city))
    actuated = run_rival(tiny_city, "actuated", options(tiny_city))
    assert shipped == replace(plain.summary, sent={})  # the street without orders is the shipped city
    assert actuated.vehicles == shipped.vehicles
    assert actuated.mean_delay_s != shipped.mean_delay_s


def test_faults_come_as_declared(tiny_city: CityFolder) -> None:
    faults = Faults(malformed_frac=0.05, duplicate_frac=0.03, delayed_frac=0.03, silent=(("loops", 60.0, 120.0),))
    result = run(tiny_city, options(tiny_city, duration_s=180.0, faults=faults))
    sent = result.summary.sent
    total = sum(sent[feed] for feed in MODELS if feed in sent)
    refused = 0
    for frame in result.frames:
        try:
            document = json.loads(frame.payload, parse_constant=lambda word: word)
            MODELS[frame.feed].model_validate(document)
            refused += document["measured_at"] > frame.received_at_s or "nowhere-at-all" in str(document)
        except ValueError:
            refused += 1
    assert sent["malformed"] / total == pytest.approx(0.05, rel=0.25)
    assert refused == pytest.approx(sent["malformed"], rel=0.1)
    sources = [(f.feed, f.source, f.counter) for f in result.frames]
    assert len(sources) - len(set(sources)) == pytest.approx(sent["duplicate"], rel=0.1)
    assert not any(f.feed == "loops" and 60.0 <= f.sent_at_s - tiny_city.epoch_s < 120.0 for f in result.frames)
    assert sent["silenced"] == 6 * 60


WAY_ROUND = ("left0A0", "A0A1", "A1B1", "B1C1", "C1C0", "C0right0")


def test_equipped_drivers_follow_route_advice(exact: Run, tiny_city: CityFolder, tiny_network: Network) -> None:
    advice = RouteAdvice(vehicle=None, from_edge="left0A0", destination="C0right0", route=WAY_ROUND, share=1.0)
    order = pack_order(GuidanceOrder(valid_until=tiny_city.epoch_s + 900, routes=(advice,)))
    wanted = options(tiny_city, noise=EXACT, coverage=ALL, compliance=0.5)
    guided = run(tiny_city, wanted, {0: [order]})

    def left(result: Run, edge: str) -> float:
        index = tiny_network.edge_index[edge]
        return sum(r.truth.edge_flow_vps[index] * r.truth.window_s for r in result.reports)

    entered = left(exact, "left0A0")
    assert left(exact, "A0A1") == 0
    assert 0.25 * entered < left(guided, "A0A1") < 0.7 * entered
    assert guided.summary.vehicles == exact.summary.vehicles


def test_speed_advice_slows_those_who_listen(exact: Run, tiny_city: CityFolder, tiny_network: Network) -> None:
    slow = SpeedAdvice(edge="left0A0", speed_mps=6.0)
    order = pack_order(GuidanceOrder(valid_until=tiny_city.epoch_s + 900, routes=(), speeds=(slow,)))
    wanted = options(tiny_city, noise=EXACT, coverage=ALL, compliance=1.0, duration_s=120.0)
    advised = run(tiny_city, wanted, {0: [order]})
    name = {d.id: d for d in find_detectors(tiny_network, ALL)}

    def fastest(result: Run, lane: str) -> float:
        return max(
            reading["speed_mps"] or 0.0
            for frame, report in result.of("loops")
            if frame.sent_at_s < tiny_city.epoch_s + 120
            for reading in report["readings"]
            if reading["detector"] == f"{lane}_upstream"
        )

    assert "left0A0_0_upstream" in name
    assert fastest(exact, "left0A0_0") > 9.0
    assert fastest(advised, "left0A0_0") < 7.0
    assert fastest(advised, "A0B0_0") > 9.0  # free again on the next edge


def test_a_closure_is_announced_and_real(exact: Run, tiny_city: CityFolder, tiny_network: Network) -> None:
    begin_s = tiny_city.epoch_s + 20.0
    notice = NoticeReport(measured_at=begin_s, id="works", edge="A0B0", begin=begin_s, end=begin_s + 600)
    result = run(tiny_city, options(tiny_city, noise=EXACT, coverage=ALL, notices=(notice,)))
    told = [r for _, r in result.of("control")]
    assert [r["id"] for r in told] == ["works"]
    index = tiny_network.edge_index["A0B0"]
    flow = [sum(r.truth.edge_flow_vps[index] for r in x.reports) for x in (exact, result)]
    assert flow[1] < 0.4 * flow[0]
    assert result.summary.vehicles == exact.summary.vehicles


def test_every_vehicle_of_the_day_is_scheduled(exact: Run, tiny_city: CityFolder, tmp_path: Path) -> None:
    day = perturb_demand(tiny_city, seed=5, spread=0.15, out_folder=tmp_path)
    due = [v for v in read_schedule(day).values() if v.depart_s < 300.0]
    assert exact.summary.vehicles == len(due)
