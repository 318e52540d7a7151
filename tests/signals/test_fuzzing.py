"""The fuzzer's own parts: its plain checker is the plain one, its signals are sound, its watch sees what is wrong."""

from __future__ import annotations

import math
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.fuzzing.hostile import FROM_S, Hostility
from benchmarks.fuzzing.made_up import MOST_LINKS, make_signal
from benchmarks.fuzzing.plain import PlainChecker, is_no_plan
from benchmarks.fuzzing.plans import judge_block
from benchmarks.fuzzing.switching import Hostile, corrupt, switch
from benchmarks.safety_fuzz import run_block, summarise
from networks.errors import MessageError
from networks.messages import unpack_order
from networks.readers.sumo import read_sumo
from signals import executor
from signals import safety_kernels as proof
from signals.fixed import fixed_plan
from signals.lamps import LampRecord
from signals.rules import rules_of
from signals.safety import find_change_violations, find_violations
from signals.transitions_kernels import ARROW, MAJOR, MEETS, MINOR, OFF, RED, YELLOW
from signals.way_home import plan_return
from tests.signals import naive_safety
from tests.signals.strategies_signals import hostile_plans, signals


@settings(max_examples=200)
@given(st.data())
def test_the_fast_plain_checker_is_the_plain_checker(data):
    signal = data.draw(signals())
    record, plan = data.draw(hostile_plans(signal))
    max_green_s = data.draw(st.sampled_from([math.inf, 5.0, 20.0]))
    fast = PlainChecker(signal).broken_rules(plan, record, max_green_s=max_green_s)
    assert fast == naive_safety.broken_rules(plan, signal, record, max_green_s=max_green_s)


@settings(max_examples=60)
@given(st.data())
def test_the_fast_plain_checker_judges_cycles_in_their_steady_state_too(data):
    signal = data.draw(signals(most_links=4))
    _, plan = data.draw(hostile_plans(signal))
    plan = replace(plan, repeats=True, valid_until_s=math.inf)
    earlier = replace(plan, valid_from_s=plan.valid_from_s - plan.cycle_s)
    until_s = plan.valid_from_s + 4 * plan.cycle_s + 400
    slow = naive_safety.broken_rules(earlier, signal, None, until_s=until_s, judged_from_s=plan.valid_from_s)
    assert PlainChecker(signal).broken_rules(plan, None) == slow


@pytest.mark.parametrize("seed", range(4))
def test_hostile_plans_are_judged_alike_by_proof_plain_and_plainest_checker(seed):
    rng = Random(seed)
    made = [make_signal(rng, f"S{n}", links=rng.randint(2, 7)) for n in range(6)]
    for signal in made:
        hostility, checker = Hostility(signal, made, rng), PlainChecker(signal)
        for _ in range(25):
            case = hostility.case()
            no_plan = naive_safety.is_no_plan(case.plan, signal, case.lamps)
            assert is_no_plan(case.plan, signal, case.lamps) == no_plan
            found = {(v.rule, v.links) for v in find_violations(case.plan, signal, case.lamps)}
            if no_plan:
                assert found
            elif ("more", ()) not in found:
                assert found == checker.broken_rules(case.plan, case.lamps)


def test_a_block_of_hostile_plans_finds_the_proof_right():
    verdicts = judge_block("test", 600, [])
    assert (verdicts.unsafe_approved, verdicts.safe_refused, verdicts.other_findings) == (0, 0, 0)
    assert verdicts.plans == 600
    assert 50 < verdicts.approved < 400
    assert {"conflict", "priority", "intergreen", "yellow", "min green", "max red", "letters"} <= set(verdicts.rules)


def test_made_up_signals_ship_sound_programmes():
    links = set()
    for seed in range(40):
        signal = make_signal(Random(seed), "S")
        links.add(signal.link_count)
        fixed = fixed_plan(signal, epoch_of_zero_s=0.0)
        assert {v.rule for v in find_violations(fixed, signal, None)} <= {"max red"}
    assert min(links) < 6
    assert max(links) <= MOST_LINKS


@pytest.mark.parametrize("seed", [1, 2])
def test_no_lamp_is_unsafe_whatever_breaks(seed):
    rng = Random(seed)
    made = [make_signal(rng, f"S{n}", links=rng.randint(2, 8)) for n in range(8)]
    tally = switch(Hostile(made, rng), made, rng, 1500, think_s=1.0, judge_own=True)
    assert dict(tally.violations) == {}
    assert tally.switches > 500
    assert tally.counts["orders: accepted"] > 100
    assert any(name.startswith("falls: monitor") for name in tally.counts)


def test_the_bystander_sees_when_the_roadside_controller_does_not_watch(monkeypatch):
    monkeypatch.setattr(executor, "find_change_violations", lambda *_: [])
    rng = Random(3)
    made = [make_signal(rng, f"S{n}", links=rng.randint(3, 8)) for n in range(6)]
    tally = switch(Hostile(made, rng), made, rng, 900, think_s=1.0, judge_own=True)
    assert {"yellow", "conflict", "intergreen", "min green"} <= set(tally.violations)


def test_the_bystander_sees_a_link_that_is_starved(monkeypatch):
    monkeypatch.setattr(executor.Head, "_starved_s", lambda *_: math.inf)
    rng = Random(4)
    made = [replace(make_signal(rng, f"S{n}", links=4), max_red_s=60.0) for n in range(4)]
    thinker = Hostile(made, rng)
    thinker._stubborn = [True] * len(made)
    assert "max red" in switch(thinker, made, rng, 1800, think_s=1.0, judge_own=True).violations


@pytest.mark.parametrize("seed", range(12))
def test_what_was_closed_on_the_way_home_has_cleared_when_the_programme_goes_on(seed):
    rng = Random(seed)
    for _ in range(6):
        signal = make_signal(rng, "S", links=rng.randint(4, 14))
        fixed, at_s = fixed_plan(signal, epoch_of_zero_s=FROM_S), FROM_S
        hostility = Hostility(signal, [], rng)
        plan = hostility.honest(LampRecord.start(hostility.states[0], FROM_S), FROM_S)
        record = LampRecord.start(hostility.states[0], FROM_S)
        fall_s = FROM_S + rng.randint(1, 60)
        while at_s < fall_s:
            record, at_s = record.then(plan.state_at(at_s), at_s), at_s + 1.0
        home = plan_return(signal, fixed, record, at_s)
        for second in range(int(home.valid_until_s - at_s + fixed.cycle_s)):
            now_s = at_s + second
            state = (home if now_s < home.valid_until_s else fixed).state_at(now_s)
            if state != record.state:
                assert find_change_violations(signal, record, state, now_s) == []
                record = record.then(state, now_s)


def test_corrupted_orders_are_orders_or_refused():
    rng = Random(5)
    text = b'{"kind":"plan","order":{"junction":"S","plan_version":4,"valid_from":1772000000.0}}'
    for _ in range(200):
        try:
            unpack_order(corrupt(text, rng))
        except MessageError:
            continue


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numbers that no sensor may send reach the controllers here
def test_the_real_controllers_keep_the_lamps_safe_through_failing_sensors(shared_data):
    nets = (str(shared_data / "resco/cologne8/cologne8.net.xml.gz"),)
    results = [run_block((kind, "1/0", 0.5), nets) for kind in ("pressure", "rolling", "hostile")]
    results.append(run_block(("plans", "1/0", 200.0), nets))
    report = summarise(results)
    assert report["found"] == 0, report["examples"]
    assert report["switching"]["junction_hours"] == pytest.approx(1.5, rel=0.01)
    assert report["plans"]["judged"] == 200


def test_real_signals_are_judged_alike(shared_data):
    network = read_sumo(shared_data / "resco/ingolstadt21/ingolstadt21.net.xml.gz")
    verdicts = judge_block("real", 400, network.signals)
    assert (verdicts.unsafe_approved, verdicts.safe_refused, verdicts.other_findings) == (0, 0, 0)


def test_the_interstages_and_the_proof_mean_the_same_codes():
    codes = (proof.RED, proof.YELLOW, proof.MINOR, proof.MAJOR, proof.ARROW, proof.OFF, proof.MEETS)
    assert codes == (RED, YELLOW, MINOR, MAJOR, ARROW, OFF, MEETS)
    signal = make_signal(Random(1), "S", links=6)
    assert np.array_equal(rules_of(signal).pairs & MEETS > 0, rules_of(signal).meets)
