"""Interstages: between all stages of real signals, and from any lamps of made-up ones."""

from __future__ import annotations

import importlib.util
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from networks.graph import Signal
from networks.readers.sumo import read_sumo
from signals.controllers.junction_choice import build_model
from signals.lamps import LampRecord
from signals.plan import LampStep, SignalPlan
from signals.safety import find_change_violations, find_violations
from signals.transitions import length_s, settle, transition
from signals.watch import LampWatch
from tests.signals.drawn_junctions import crossroads, tee
from tests.signals.strategies_signals import make_signal, signals

NETS = {
    "bologna": ("networks/bologna_joined/net.net.xml.gz", "networks/bologna_joined/tls.add.xml"),
    "bologna as in its net": ("networks/bologna_joined/net.net.xml.gz",),
    "hamburg": ("networks/hamburg_tavf/net.net.xml.gz",),
    "ingolstadt21": ("resco/ingolstadt21/ingolstadt21.net.xml.gz",),
    "cologne8": ("resco/cologne8/cologne8.net.xml.gz",),
}


def read(shared_data: Path, name: str):
    net, *programmes = (shared_data / part for part in NETS[name])
    return read_sumo(net, programmes)


def tour(states: list[str]) -> list[str]:
    """Every ordered pair of states once, as one round trip."""
    trip = [0]
    for i in range(len(states)):
        for j in range(i + 1, len(states)):
            trip += [j, i]
        trip.append((i + 1) % len(states))
    return [states[i] for i in trip]


def walk(signal: Signal, states: list[str], stand_s: float = 5.0) -> list[LampStep]:
    """Through the stages in the order given, each shown for its minimum green only."""
    record, now_s, steps = LampRecord.start(states[0], 0.0), stand_s, [LampStep(states[0], stand_s)]
    for new in states[1:]:
        for step in (*settle(signal, record, new, now_s), LampStep(new, stand_s)):
            record, now_s = record.then(step.state, now_s), now_s + step.duration_s
            steps.append(step)
    return steps


@pytest.mark.parametrize("name", NETS)
def test_every_ordered_pair_of_stages_has_a_safe_interstage(shared_data, name):
    for signal in read(shared_data, name).signals:
        for old in signal.stages:
            for new in signal.stages:
                steps = (*transition(signal, old.state, new.state), LampStep(new.state, 10.0))
                plan = SignalPlan(0, signal.id, steps, 100.0, 150.0)
                assert find_violations(plan, signal, LampRecord.start(old.state, 100.0)) == []


@pytest.mark.parametrize("name", [n for n in NETS if n != "bologna"])  # its add-file is not what the referee reads
def test_the_outside_referee_finds_nothing_in_a_tour_of_all_stages(shared_data, name):
    bench_file = shared_data.parent / "bench" / "signals_bench.py"
    if not bench_file.is_file():
        pytest.skip("needs ../shared/bench/signals_bench.py")
    spec = importlib.util.spec_from_file_location("signals_bench", bench_file)
    assert spec is not None
    assert spec.loader is not None
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    network = read(shared_data, name)
    descriptions, _ = bench.read_tls(str(shared_data / NETS[name][0]))
    referee, watch = bench.Referee(descriptions, min_green=5.0), LampWatch(network.signals)
    for index, signal in enumerate(network.signals):
        second = 0.0
        for step in walk(signal, tour([s.state for s in signal.stages])):
            for _ in range(int(step.duration_s)):
                referee.look(second, signal.id, step.state)
                watch.look(second, index, step.state)
                second += 1.0
    assert (referee.v_yel, referee.v_min, referee.v_con, referee.examples) == (0, 0, 0, [])
    assert watch.violations == []


@settings(max_examples=100)
@given(st.data())
def test_any_lamps_can_be_led_to_any_stage(data):
    """Cut a walk at any second and settle from there: no change on the way breaks a rule."""
    signal = data.draw(signals())
    states = [s.state for s in signal.stages]
    first = data.draw(st.sampled_from(states))
    record, now_s, goal = LampRecord.start(first, 0.0), 0.0, first
    for _ in range(data.draw(st.integers(1, 4))):
        goal = data.draw(st.sampled_from(states))
        shown_s = float(data.draw(st.integers(0, 12)))
        for step in (*settle(signal, record, goal, now_s), LampStep(goal, 20.0)):
            if shown_s <= 0:
                break
            assert find_change_violations(signal, record, step.state, now_s) == []
            record = record.then(step.state, now_s)
            passed_s = min(shown_s, step.duration_s)
            now_s, shown_s = now_s + passed_s, shown_s - passed_s
    plan = SignalPlan(0, "S", (*settle(signal, record, goal, now_s), LampStep(goal, 5.0)), now_s, now_s + 30.0)
    assert {v.rule for v in find_violations(plan, signal, record)} <= {"max red"}


@settings(max_examples=100)
@given(st.data())
def test_what_stays_open_is_never_closed_and_nothing_waits_longer_than_it_must(data):
    signal = data.draw(signals())
    old, new = (data.draw(st.sampled_from([s.state for s in signal.stages])) for _ in range(2))
    steps = transition(signal, old, new)
    for step in steps:
        assert all(step.state[k] in "Gg" for k in range(len(old)) if old[k] in "Gg" and new[k] in "Gg")
    closing = [k for k in range(len(old)) if old[k] in "Gg" and new[k] not in "Gg"]
    if "o" in old:  # traffic that ran while its lamp was off has to clear too
        assert length_s(steps) <= max(signal.intergreen_s.max(), 7.0, signal.yellow_s + signal.all_red_s) + 1.0
    elif not closing:
        assert steps == ()
    else:
        longest_s = max(signal.intergreen_s.max(), 7.0, signal.yellow_s + signal.all_red_s)
        assert signal.yellow_s <= length_s(steps) <= longest_s
    assert all(step.state != after.state for step, after in pairwise(steps))
    assert not steps or steps[-1].state != new


def test_links_start_one_by_one_as_their_way_clears():
    """0 closes; 1 crosses it, 2 meets nothing: 2 starts at once, 1 after yellow and all-red."""
    foes = np.zeros((3, 3), bool)
    foes[0, 1] = foes[1, 0] = True
    signal = make_signal(["Grr", "rGG"], foes, yellow_s=3.0, all_red_s=2.0)
    assert transition(signal, "Grr", "rGG") == (LampStep("yrG", 3.0), LampStep("rrG", 2.0))


def test_priority_is_given_up_at_once_and_taken_only_when_the_foe_has_cleared():
    foes = np.array([[0, 1], [1, 0]], bool)
    signal = make_signal(["Gg", "rG"], foes, yellow_s=3.0, all_red_s=1.0)
    assert transition(signal, "Gg", "rG") == (LampStep("yg", 3.0), LampStep("rg", 1.0))
    assert transition(signal, "rG", "Gg") == ()


def test_a_young_green_is_kept_for_its_minimum():
    foes = np.array([[0, 1], [1, 0]], bool)
    signal = make_signal(["Gr", "rG"], foes)
    record = LampRecord.start("rr", 0.0).then("Gr", 10.0)
    steps = settle(signal, record, "rG", 12.0)
    assert steps == (LampStep("Gr", 3.0), LampStep("yr", 3.0), LampStep("rr", 1.0))


def test_a_running_yellow_is_completed_and_ends_in_red():
    foes = np.array([[0, 1], [1, 0]], bool)
    signal = make_signal(["Gr", "rG"], foes)
    record = LampRecord.start("Gr", 0.0).then("yr", 10.0)
    assert settle(signal, record, "Gr", 11.0) == (LampStep("yr", 2.0), LampStep("rr", 1.0))
    assert settle(signal, record, "rG", 11.0) == (LampStep("yr", 2.0), LampStep("rr", 1.0))


@pytest.mark.parametrize("network", [crossroads(), tee()], ids=["crossroads", "tee"])
def test_the_planner_knows_when_each_link_closes_and_starts(network):
    """Between any two stages: the moments of the roll-outs are those of the interstage that is shown."""
    model = build_model(network, 0)
    layout = model.layout
    for a, b in np.ndindex(len(model.stage_states), len(model.stage_states)):
        old, new = model.stage_states[a], model.stage_states[b]
        steps = transition(model.signal, old, new)
        begins_s = np.concatenate([[0.0], np.cumsum([s.duration_s for s in steps])])
        shown = [*(s.state for s in steps), new]
        if a == b or not steps:
            continue
        assert layout.change_s[a, b] == begins_s[-1], (old, new)
        for k in model.link_of.tolist():
            lit = [state[k] in "Gg" for state in shown]
            if old[k] not in "Gg" and new[k] in "Gg":
                assert begins_s[lit.index(True)] == layout.change_s[a, b] - layout.early_s[a, b, k], (old, new, k)
            if old[k] in "Gg" and new[k] not in "Gg":
                assert begins_s[lit.index(False)] == layout.change_s[a, b] - layout.tail_s[a, b, k], (old, new, k)
