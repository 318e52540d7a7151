"""One stage after another fails: it is named, its fallback stands in, the rest goes on. And a run can be repeated."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from networks.city import Coverage
from networks.messages import Frame
from scenarios.virtual_city import StreetOptions, VirtualCity
from signals.fixed import fixed_plan
from twin import loop
from twin.app import CityModel, build_city, build_model
from twin.archive import open_store
from twin.live import run_live
from twin.loop import FALLBACKS, City, CycleReport, Pace, run_cycle
from twin.privacy import Pseudonyms

FAILS_FROM, FAILS_UNTIL, CYCLES = 6, 9, 12  # cycles


@dataclass
class Log:
    """What a street sent, by cycle."""

    frames: list[tuple[float, tuple[Frame, ...]]]


@pytest.fixture(scope="module")
def log(model: CityModel, patient: Pace) -> Log:
    """A minute of the city under the loop, kept to be played to loops that fail."""
    frames: list[tuple[float, tuple[Frame, ...]]] = []
    with pytest.MonkeyPatch.context() as patch:
        collect = VirtualCity.collect

        def keep(street: VirtualCity, timeout_s: float):
            report = collect(street, timeout_s)
            frames.append((report.now_s, report.frames))
            return report

        patch.setattr(VirtualCity, "collect", keep)
        day = StreetOptions(seed=3, duration_s=5.0 * CYCLES, coverage=model.folder.coverage)
        run_live(model, day, patient, mirrored=False)
    return Log(frames)


@pytest.fixture
def city(model: CityModel, tmp_path: Path) -> Iterator[City]:
    """A loop that forecasts and advises in every cycle, with a store and without a mirror."""
    pace = Pace(cycle_s=5.0, forecast_every_s=5.0, forecast_lead_s=0.0, guide_every_s=5.0, deadline_s=60.0)
    built = build_city(model, pace=pace, store=tmp_path / "history", mirrored=False, pseudonyms=Pseudonyms(b"x"))
    yield built
    built.close()


def play(city: City, log: Log, before: Callable[[City, int], None]) -> list[CycleReport]:
    reports = []
    for cycle, (now_s, frames) in enumerate(log.frames):
        for frame in frames:
            city.inbox.offer(frame, now_s)
        before(city, cycle)
        reports.append(run_cycle(city, now_s))
    return reports


def fail(*_: object, **__: object) -> None:
    raise RuntimeError("a fault for the test")


class DeafMirror:
    """A mirror that takes no state."""

    alive = True
    assimilate = staticmethod(fail)

    def latest(self) -> None:
        return None

    def close(self) -> None:
        pass


BREAKS: dict[str, Callable[[City, pytest.MonkeyPatch], None]] = {
    "fuse": lambda city, patch: patch.setattr(city.fusion, "update", fail),
    "mirror": lambda city, patch: patch.setattr(city, "mirror", DeafMirror()),
    "forecast": lambda city, patch: patch.setattr(city.forecaster, "predict", fail),
    "decide": lambda city, patch: patch.setattr(loop, "decide", fail),
    "guide": lambda city, patch: patch.setattr(city.guide, "advise", fail),
    "publish": lambda city, patch: patch.setattr(city.publisher, "publish", fail),
    "store": lambda city, patch: patch.setattr(city.store, "append_cycle", fail),
}


@pytest.mark.parametrize("stage", BREAKS)
def test_a_failing_stage_is_named_and_the_rest_goes_on(stage, city, log):
    sent: list[int] = []
    with pytest.MonkeyPatch.context() as patch:

        def break_and_mend(city: City, cycle: int) -> None:
            sent.append(len(city.publisher.take()))
            if cycle == FAILS_FROM:
                BREAKS[stage](city, patch)
            elif cycle == FAILS_UNTIL:
                patch.undo()

        reports = play(city, log, break_and_mend)
    assert len(reports) == CYCLES
    for report in reports:
        broken = FAILS_FROM <= report.cycle < FAILS_UNTIL
        assert [o.stage for o in report.failures] == ([stage] if broken else [])
        for outcome in report.failures:
            assert outcome.fallback == FALLBACKS[stage]
            assert outcome.error == "RuntimeError: a fault for the test"
        plans = len(report.decision.approved)
        if broken and stage == "decide":
            assert plans == 0
        elif stage in ("decide", "publish") and report.cycle >= FAILS_FROM:
            assert plans > 0, "the recorded street obeyed plans that this loop did not send: some lamps puzzle it"
        else:
            assert plans == len(city.network.signals)
    orders = sent[FAILS_FROM + 1 : FAILS_UNTIL + 1]
    assert all(n == 0 for n in orders) if stage in ("decide", "publish") else all(n >= 4 for n in orders)
    if stage == "fuse":
        assert [r.state.now_s for r in reports[FAILS_FROM:FAILS_UNTIL]] == [log.frames[FAILS_FROM - 1][0]] * 3
    if stage == "forecast":
        assert {r.forecast.made_at_s for r in reports[FAILS_FROM:FAILS_UNTIL]} == {log.frames[FAILS_FROM - 1][0]}


def test_before_the_first_state_nothing_is_decided_and_nothing_fails_but_the_fusion(city, log, monkeypatch):
    monkeypatch.setattr(city.fusion, "update", fail)
    reports = play(city, log, lambda *_: None)
    assert all([o.stage for o in r.failures] == ["fuse"] for r in reports)
    assert all(r.decision.approved == () and r.state is None for r in reports)
    assert city.publisher.take() == []


@pytest.mark.parametrize("stage", ["forecast", "guide", "store"])
def test_a_stuck_stage_does_not_hold_up_the_loop(stage, city, log, monkeypatch):
    """It hangs until the tenth cycle; each cycle in between says so."""
    gate = threading.Event()
    owner = {"forecast": city.forecaster, "guide": city.guide, "store": city.store}[stage]
    name = {"forecast": "predict", "guide": "advise", "store": "append_cycle"}[stage]
    work, held = getattr(owner, name), []

    def stuck(*args: object, **kwargs: object) -> object:
        if len(reports_so_far) == FAILS_FROM and not held:
            held.append(True)
            gate.wait(60.0)
        return work(*args, **kwargs)

    reports_so_far: list[int] = []

    def count(city: City, cycle: int) -> None:
        reports_so_far[:] = range(cycle)
        if cycle == FAILS_FROM:
            city.stages[stage].deadline_s = 0.02
        if cycle == FAILS_UNTIL:
            gate.set()
            late = city.stages[stage]._late
            assert late is not None
            late.exception(60.0)
            city.stages[stage].deadline_s = 60.0

    monkeypatch.setattr(owner, name, stuck)
    reports = play(city, log, count)
    errors = [[o.error for o in r.failures if o.stage == stage] for r in reports]
    assert errors[FAILS_FROM] == ["missed its deadline of 0.02 s"]
    assert errors[FAILS_FROM + 1 : FAILS_UNTIL] == [["still busy with an earlier cycle"]] * 2
    assert [e for i, e in enumerate(errors) if not FAILS_FROM <= i < FAILS_UNTIL and e] == []
    assert all(len(r.decision.approved) == len(city.network.signals) for r in reports)


def test_no_cycle_waits_for_a_forecast_that_is_not_due(city, log, monkeypatch):
    """Ordered every half minute, handed over a quarter of a minute later; it takes two cycles to make."""
    city.pace = replace(city.pace, forecast_every_s=30.0, forecast_lead_s=15.0)
    work, gate = city.forecaster.predict, threading.Event()

    def slow(history: object, now_s: float, change: object) -> object:
        if city.forecast is not None:
            gate.wait(60.0)
        return work(history, now_s, change)

    def open_later(city: City, cycle: int) -> None:
        if cycle == FAILS_FROM + 2:  # ordered in the sixth cycle, due in the ninth
            gate.set()

    monkeypatch.setattr(city.forecaster, "predict", slow)
    reports = play(city, log, open_later)
    assert [r.failures for r in reports] == [()] * CYCLES
    first, second = log.frames[0][0], log.frames[6][0]
    assert [r.forecast.made_at_s for r in reports] == [first] * 9 + [second] * 3


def test_what_a_slow_store_could_not_take_is_stored_later(city, log, monkeypatch, tmp_path):
    gate, append = threading.Event(), city.store.append_cycle

    def slow(record: object) -> int:
        if city.cycle == FAILS_FROM:
            gate.wait(60.0)
        return append(record)

    def count(city: City, cycle: int) -> None:
        city.stages["store"].deadline_s = 0.02 if FAILS_FROM <= cycle < FAILS_UNTIL else 60.0
        if cycle == FAILS_UNTIL:
            gate.set()
            city.stages["store"]._late.exception(60.0)

    monkeypatch.setattr(city.store, "append_cycle", slow)
    play(city, log, count)
    city.store.flush()
    with open_store(tmp_path / "history") as archive:
        assert archive.cycles() == tuple(range(1, CYCLES + 1))
        times = archive.query("select now_s from cycles order by cycle")["now_s"].to_pylist()
        assert times == [now_s for now_s, _ in log.frames]
        rows = archive.query("select count(*) as n from counts")["n"].to_pylist()
        assert rows == [city.inbox.tallies["loops"].rows_accepted]


def test_when_the_first_controller_fails_the_next_one_answers(city, log, monkeypatch):
    monkeypatch.setattr(city.controllers[0], "propose", fail)
    for report in play(city, log, lambda *_: None):
        (failure,) = report.failures
        assert (failure.stage, failure.error) == ("control", "RuntimeError: a fault for the test")
        assert {a.plan.source for a in report.decision.approved} == {city.controllers[1].name}
        assert len(report.decision.approved) == len(city.network.signals)


def test_without_any_controller_every_signal_returns_to_its_own_programme(model, patient, tmp_path):
    """After half a minute of plans all controllers fail; in the end each lamp is in step with its programme."""

    def strike(city: City, report: CycleReport, street: VirtualCity) -> None:
        if report.cycle == FAILS_FROM:
            for controller in city.controllers:
                controller.propose = fail

    day = StreetOptions(seed=3, duration_s=200.0, coverage=model.folder.coverage)
    result = run_live(model, day, patient, store=tmp_path, mirrored=False, watch=strike)
    failing = int(day.duration_s / patient.cycle_s) - FAILS_FROM - 1
    assert result.failures == {"control": 2 * failing}, "each controller's failure is on record"
    assert result.summary.safety_violations == 0
    zero_s = model.folder.epoch_s - model.folder.begin_s
    fixed = [fixed_plan(s, index=i, epoch_of_zero_s=zero_s) for i, s in enumerate(model.network.signals)]
    with open_store(tmp_path) as archive:
        lamps = archive.query("select * from lamps order by measured_at_s").to_pylist()
    assert {row["signal"] for row in lamps if row["plan_version"] >= 0} == set(range(len(fixed)))
    last = [row for row in lamps if row["measured_at_s"] >= zero_s + 150.0]
    assert {row["plan_version"] for row in last} == {-1}
    assert all(row["state"] == fixed[row["signal"]].state_at(row["measured_at_s"]) for row in last)


def test_two_runs_of_one_day_are_the_same_to_the_last_lamp(model, patient, day, tmp_path):
    """Without the mirror, which runs at its own pace, nothing in the loop is left to chance."""
    told = []
    for name in ("first", "second"):
        result = run_live(model, day, patient, store=tmp_path / name, mirrored=False)
        with open_store(tmp_path / name) as archive:
            decisions = archive.query("select cycle, junction, version, proof, plan from decisions order by 1, 2")
            states = archive.query("select cycle, edge_flow_vps, lane_queue_veh, vehicle_id from states order by 1")
            told.append((result.summary, decisions.to_pylist(), states.to_pylist()))
    (one, decisions, states), (other, decisions_again, states_again) = told
    assert one == other
    assert decisions == decisions_again
    assert states == states_again


def test_another_day_is_another_day(model, patient, day):
    """The equality above is not that of runs in which nothing happens."""
    first, second = (
        run_live(model, replace(day, seed=seed), patient, mirrored=False).summary.mean_delay_s for seed in (3, 4)
    )
    assert not np.isclose(first, second)


def test_a_citys_own_list_of_sensors_is_what_street_and_twin_have(model: CityModel, tmp_path: Path) -> None:
    """Loops at odd places under the city's own names, and a unit at one signal: all are heard, none is unknown."""
    network, path = model.network, tmp_path / "detectors.csv"
    lanes = [int(lane) for lane in np.unique(network.movements.from_lane[network.movements.signal >= 0])]
    rows = [
        f"K{n:03d},{network.lanes.ids[lane]},{0.6 * network.lanes.length_m[lane]:.2f}" for n, lane in enumerate(lanes)
    ]
    path.write_text("\n".join(["id,lane,position_m", *rows]))
    own = Coverage(loops=path, roadside=(network.signals[2].id,), equipped=0.3)
    listed = build_model(replace(model.folder, coverage=own), past_days=0)
    assert {d.id for d in listed.detectors} == {f"K{n:03d}" for n in range(len(lanes))}
    day = StreetOptions(seed=3, duration_s=60.0, coverage=own)
    result = run_live(listed, day, Pace(cycle_s=5.0, deadline_s=60.0), mirrored=False)
    assert result.quarantined == {}
    assert result.frames["loops"] > 0
    assert result.frames["roadside"] > 0
    assert result.plans > 0
