"""The roadside controller: obeys, checks, falls back, and is never unsafe whatever it hears."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from networks.graph import OFF, Schedule
from networks.messages import LampStepOrder, PlanOrder
from networks.readers.sumo import read_sumo
from signals.executor import PLANS_AT_ONCE, SILENCE_S, Head, StartUp
from signals.fixed import OwnProgrammes, fixed_plan, own_programmes
from signals.lamps import LampRecord
from signals.plan import LampStep
from signals.rules import rules_of
from signals.safety import find_change_violations
from signals.transitions import settle
from signals.watch import Bystander, LampWatch
from signals.way_home import plan_return
from tests.signals.strategies_signals import make_signal, signals

T0 = 1_772_000_000.0
FOES = np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]], bool)
SHIPPED = ["Grr", "yrr", "rrr", "rGr", "ryr", "rrr", "rrG", "rry", "rrr"]
SECONDS = [20, 3, 2, 15, 3, 2, 10, 3, 2]


def three_ways():
    """Three streams that all conflict, with a whole programme of 60 s."""
    signal = make_signal(["Grr", "rGr", "rrG"], FOES, all_red_s=2.0)
    phase = signal.programme.phases[0]
    phases = tuple(replace(phase, state=s, duration_s=float(d)) for s, d in zip(SHIPPED, SECONDS, strict=True))
    return replace(signal, programmes=(replace(signal.programme, phases=phases),))


SIGNAL = three_ways()
FIXED = fixed_plan(SIGNAL, epoch_of_zero_s=T0)
OWN = OwnProgrammes((FIXED,))


def order(version, valid_from_s, *steps, length_s=60.0, **changes):
    values = {
        "junction": "S",
        "plan_version": version,
        "valid_from": valid_from_s,
        "valid_until": valid_from_s + length_s,
        "repeats": False,
        "steps": tuple(LampStepOrder(state=s, duration_s=d) for s, d in steps),
    }
    return PlanOrder(**(values | changes))


def run(head, from_s, seconds, hear=lambda second: None):
    shown = []
    for second in range(seconds):
        message = hear(second)
        if message is not None:
            head.receive(message, from_s + second)
        shown.append(head.step(from_s + second))
    return shown


def test_unheard_of_it_shows_exactly_the_shipped_programme():
    head = Head(SIGNAL, OWN, T0 + 7)
    assert run(head, T0 + 7, 150) == [FIXED.state_at(T0 + 7 + s) for s in range(150)]
    assert head.plan_version == -1


def test_a_shipped_programme_that_breaks_our_rules_is_shown_as_it_is():
    signal = make_signal(["Grr", "rGr", "rrG"], FOES)  # no yellow at all
    fixed = fixed_plan(signal, epoch_of_zero_s=T0)
    assert run(Head(signal, OwnProgrammes((fixed,)), T0), T0, 120) == [fixed.state_at(T0 + s) for s in range(120)]


def test_a_plan_takes_over_at_its_moment_and_is_followed_to_the_second():
    head = Head(SIGNAL, OWN, T0)
    plan = order(1, T0 + 10, ("Grr", 2), ("yrr", 3), ("rrr", 2), ("rrG", 20))
    shown = run(head, T0, 30, lambda s: plan if s == 6 else order(2, T0 + 90, ("rrG", 9)) if s in (15, 22) else None)
    assert shown == ["Grr"] * 12 + ["yrr"] * 3 + ["rrr"] * 2 + ["rrG"] * 13
    assert head.plan_version == 1
    assert head.record.state == "rrG"


def test_a_later_order_replaces_what_has_not_begun_but_not_what_comes_before_it():
    head = Head(SIGNAL, OWN, T0)
    run(head, T0, 6)
    assert head.receive(order(1, T0 + 8, ("yrr", 3), ("rrr", 2), ("rGr", 30)), T0 + 6).accepted
    assert head.receive(order(2, T0 + 12, ("rrr", 1), ("rrG", 30)), T0 + 6).accepted
    assert run(head, T0 + 6, 9) == ["Grr"] * 2 + ["yrr"] * 3 + ["rrr"] * 2 + ["rrG"] * 2


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (order(5, T0 + 10, ("Grr", 9), junction="T"), "unknown junction"),
        (order(5, T0 + 10, ("Gr", 9)), "length"),
        (order(5, T0 + 10), "length"),
        (order(5, T0 + 10, ("GrX", 9)), "letters"),
        (order(5, T0 + 10, ("Grr", 2.5)), "times"),
        (order(5, T0 + 10.5, ("Grr", 9)), "times"),
        (order(5, T0 + 10, ("Grr", 9), valid_until=T0 + 8), "times"),
        (order(5, T0 + 3, ("Grr", 9)), "late"),
        (order(3, T0 + 10, ("Grr", 9)), "stale"),
        (order(5, T0 + 10, ("Grr", math.inf)), "times"),
        (order(5, T0 + 9e9, ("Grr", 9)), "early"),
        (order(5, T0 + 10, ("rGr", 9)), "start"),
        (order(5, T0 + 22, ("Grr", 9)), "start"),  # by then its own programme shows yellow
    ],
)
def test_orders_that_do_not_fit_are_refused_and_change_nothing(message, reason):
    head = Head(SIGNAL, OWN, T0)
    run(head, T0, 6)
    assert head.receive(order(4, T0 + 200, ("Grr", 9)), T0 + 5).accepted
    answer = head.receive(message, T0 + 6)
    assert (answer.accepted, answer.reason) == (False, reason)
    assert run(head, T0 + 6, 30) == [FIXED.state_at(T0 + 6 + s) for s in range(30)]


def test_the_same_version_again_is_a_sign_of_life():
    head = Head(SIGNAL, OWN, T0)
    plan = order(1, T0 + 2, ("Grr", 5), length_s=100.0)
    shown = run(head, T0, 80, lambda s: plan if s % 8 == 0 else None)
    assert shown == ["Grr"] * 80
    assert head.receive(plan, T0 + 80).accepted


def test_silence_brings_the_own_programme_back_safely_and_in_step():
    head, watch = Head(SIGNAL, OWN, T0), LampWatch([SIGNAL])
    head.receive(order(1, T0 + 2, ("Grr", 5), length_s=300.0), T0)
    shown = run(head, T0, 200)
    assert shown[: int(SILENCE_S)] == ["Grr"] * int(SILENCE_S)
    assert [f.reason for f in head.falls] == ["silence"]
    assert head.plan_version == -1
    assert shown[80:] == [FIXED.state_at(T0 + s) for s in range(80, 200)]
    for second, state in enumerate(shown):
        watch.look(T0 + second, 0, state)
    assert watch.violations == []


def test_a_plan_that_runs_out_ends_in_the_own_programme():
    head = Head(SIGNAL, OWN, T0)
    plan = order(1, T0 + 2, ("Grr", 5), length_s=30.0)
    run(head, T0, 40, lambda s: plan if s % 5 == 0 else None)
    assert [(f.reason, f.at_s) for f in head.falls] == [("plan ran out", T0 + 32)]
    refused = head.receive(plan, T0 + 40)
    assert not refused.accepted


def test_after_silence_versions_may_count_anew():
    head = Head(SIGNAL, OWN, T0)
    head.receive(order(900, T0 + 2, ("Grr", 5)), T0)
    run(head, T0, 61)
    assert head.mode == "own"
    assert head.receive(order(0, T0 + 62, ("Grr", 9)), T0 + 61).accepted


@pytest.mark.parametrize(
    "steps",
    [
        [("Grr", 2), ("rGr", 9)],  # no yellow
        [("Grr", 2), ("yrr", 3), ("rGr", 9)],  # no all-red
        [("Grr", 2), ("GGr", 9)],  # conflict
        [("Grr", 2), ("yrr", 3), ("rrr", 2), ("rGr", 3), ("ryr", 3)],  # short green
    ],
)
def test_the_monitor_drops_an_unsafe_plan_at_the_last_second(steps):
    head, watch = Head(SIGNAL, OWN, T0 - 30), LampWatch([SIGNAL])
    run(head, T0 - 30, 30)
    assert head.receive(order(1, T0 + 1, *steps), T0).accepted
    for second, state in enumerate(run(head, T0, 120)):
        watch.look(T0 + second, 0, state)
    assert head.falls[0].reason.startswith("monitor")
    assert watch.violations == []
    assert head.mode == "own"


@settings(max_examples=60)
@given(st.data())
def test_whatever_it_hears_the_lamps_stay_safe(data):
    """Orders honest, late, unsafe and random, with gaps of any length, over a programme that is safe itself."""
    head, watch = Head(SIGNAL, OWN, T0), LampWatch([SIGNAL])
    second = 0
    for version in range(data.draw(st.integers(1, 12))):
        ahead = data.draw(st.integers(-3, 12))
        if data.draw(st.booleans()):
            goal = data.draw(st.sampled_from([s.state for s in SIGNAL.stages]))
            way = (*settle(SIGNAL, head.record, goal, T0 + second), LampStep(goal, 10.0))
            steps = [(s.state, s.duration_s) for s in way]
        else:
            states = st.lists(st.text("Ggyr", min_size=3, max_size=3), min_size=1, max_size=5)
            steps = [(s, data.draw(st.integers(1, 9))) for s in data.draw(states)]
        length_s = float(data.draw(st.integers(1, 40)))
        head.receive(order(version, T0 + second + ahead, *steps, length_s=length_s), T0 + second)
        for _ in range(data.draw(st.integers(1, 25))):
            watch.look(T0 + second, 0, head.step(T0 + second))
            second += 1
    for _ in range(150):
        watch.look(T0 + second, 0, head.step(T0 + second))
        second += 1
    assert watch.violations == []
    assert head.mode == "own"
    assert head.lamps == FIXED.state_at(T0 + second - 1)


@settings(max_examples=100)
@given(st.data())
def test_the_way_home_is_safe_from_any_lamps_of_any_signal(data):
    signal = data.draw(signals())
    fixed = fixed_plan(signal, epoch_of_zero_s=T0)
    states = [s.state for s in signal.stages]
    record, now_s = LampRecord.start(data.draw(st.sampled_from(states)), T0), T0
    cut_s = data.draw(st.integers(0, 20))
    for step in settle(signal, record, data.draw(st.sampled_from(states)), now_s):
        if now_s - T0 >= cut_s:
            break
        record, now_s = record.then(step.state, now_s), now_s + step.duration_s
    home = plan_return(signal, fixed, record, now_s)
    for second in range(int(home.valid_until_s - now_s)):
        state = home.state_at(now_s + second)
        if state != record.state:
            assert find_change_violations(signal, record, state, now_s + second) == []
            record = record.then(state, now_s + second)
    assert fixed.state_at(home.valid_until_s) == home.steps[-1].state
    assert home.valid_until_s <= now_s + fixed.cycle_s + 60.0


def test_the_programme_is_joined_only_where_what_closed_on_the_way_has_cleared():
    """People on foot need 12 s; the programme's own pause after them has begun 1 s before they are stopped."""
    foes = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0]], bool)
    signal = make_signal(["GrG", "rGG"], foes, pedestrian={0}, intergreen_s=np.full((3, 3), 12.0))
    phase = signal.programme.phases[0]
    own = zip(["GrG", "yrG", "rrG", "rGG", "ryG", "rrG"], [20, 3, 9, 20, 3, 9], strict=True)
    phases = tuple(replace(phase, state=s, duration_s=float(d)) for s, d in own)
    signal = replace(signal, programmes=(replace(signal.programme, phases=phases),))
    fixed = fixed_plan(signal, epoch_of_zero_s=T0)
    assert plan_return(signal, fixed, LampRecord.start("GrG", T0), T0 + 20).valid_until_s == T0 + 23
    home = plan_return(signal, fixed, LampRecord.start("GrG", T0), T0 + 21)
    seconds = [T0 + 21 + s for s in range(60)]
    shown = [(home if now_s < home.valid_until_s else fixed).state_at(now_s) for now_s in seconds]
    assert [state[1] for state in shown].index("G") - [state[0] for state in shown].index("y") >= 12


def test_real_signals_come_home_from_every_stage(shared_data):
    net = shared_data / "networks/bologna_joined"
    network = read_sumo(net / "net.net.xml.gz", [net / "tls.add.xml"])
    for index, signal in enumerate(network.signals):
        fixed = fixed_plan(signal, index=index, epoch_of_zero_s=T0)
        for at_s in range(0, int(fixed.cycle_s), 13):
            for stage in signal.stages:
                home = plan_return(signal, fixed, LampRecord.start(stage.state, T0), T0 + at_s)
                assert fixed.state_at(home.valid_until_s) == home.steps[-1].state
                assert home.valid_until_s - (T0 + at_s) <= fixed.cycle_s


def watched(head, seconds, *, from_s=T0, hear=lambda second: None, clock=lambda second: second):
    """The states shown, and a bystander's verdict; `clock`: what the controller takes the second to be."""
    watch, shown = Bystander(SIGNAL), []
    for second in range(seconds):
        if message := hear(second):
            head.receive(message, from_s + clock(second))
        shown.append(head.step(from_s + clock(second)))
        watch.look(from_s + second, shown[-1])
    return shown, watch


def test_power_on_shows_flash_then_red_then_the_own_programme():
    head = Head(SIGNAL, OWN, T0, start_up=StartUp(flash_s=10.0, all_red_s=6.0))
    shown, watch = watched(head, 150, hear=lambda s: order(1, T0 + s, ("Grr", 9)) if s == 5 else None)
    assert shown[:16] == ["ooo"] * 10 + ["rrr"] * 6
    assert head.mode == "own"
    assert shown[100:] == [FIXED.state_at(T0 + s) for s in range(100, 150)]
    assert not watch.counts
    assert head.plan_version == -1


def test_all_red_at_power_on_lasts_as_long_as_anything_needs_to_clear():
    slow = replace(SIGNAL, intergreen_s=np.where(FOES, 12.0, 0.0))
    head = Head(slow, OWN, T0, start_up=StartUp(flash_s=10.0, all_red_s=5.0))
    assert run(head, T0, 23)[10:22] == ["rrr"] * 12


def test_orders_are_refused_until_the_start_is_over():
    head = Head(SIGNAL, OWN, T0, start_up=StartUp())
    run(head, T0, 5)
    assert head.receive(order(1, T0 + 5, ("ooo", 9)), T0 + 5).reason == "start"


def test_people_on_foot_see_no_flash():
    signal = make_signal(["GrG", "rGr"], FOES & False, pedestrian={2})
    fixed = fixed_plan(signal, epoch_of_zero_s=T0)
    assert Head(signal, OwnProgrammes((fixed,)), T0, start_up=StartUp()).step(T0) == "ooO"


@pytest.mark.parametrize("jump_s", [-3600, -40, -2, 2, 7, 100, 86_400])
def test_a_clock_that_jumps_leads_home_as_if_everything_had_just_begun(jump_s):
    for moment in (3, 9, 12, 14, 30):
        head = Head(SIGNAL, OWN, T0)
        hear = {2: order(1, T0 + 3, ("Grr", 7), ("yrr", 3), ("rrr", 2), ("rGr", 40))}.get
        shown, watch = watched(head, 200, hear=hear, clock=lambda s, m=moment: s + (jump_s if s >= m else 0))
        assert not watch.counts, (moment, watch.examples)
        assert any(f.reason.startswith("clock jumped") for f in head.falls)
        assert shown[150:] == [FIXED.state_at(T0 + s + jump_s) for s in range(150, 200)]


def test_a_clock_that_says_nothing_is_replaced_by_counting():
    head = Head(SIGNAL, OWN, T0)
    shown, _ = watched(head, 120, clock=lambda s: math.nan if 10 <= s < 70 else s)
    assert shown == [FIXED.state_at(T0 + s) for s in range(120)]
    assert head.receive(order(1, T0 + 130, ("Grr", 9)), math.nan).reason == "clock"


def test_whoever_waits_has_waited_before_the_clock_jumped_too():
    head = Head(SIGNAL, OWN, T0)
    run(head, T0, 40)
    before_s = T0 + 39 - head.record.since_s[2]
    head.step(T0 + 540)
    assert T0 + 540 - head.record.since_s[2] == before_s


def test_a_failure_closes_the_greens_in_order_and_flashes_until_it_is_mended():
    head, watch = Head(SIGNAL, OWN, T0), Bystander(SIGNAL)
    shown = []
    for second in range(200):
        if second == 5:
            head.fail("detector cabinet on fire")
        if second == 60:
            head.recover()
        shown.append(head.step(T0 + second))
        watch.look(T0 + second, shown[-1])
    assert shown[5:8] == ["yrr"] * 3
    assert set(shown[12:70]) == {"ooo"}
    assert shown[70:75] == ["rrr"] * 5
    assert head.mode == "own"
    assert not watch.counts


def test_a_failure_mended_on_the_way_still_ends_the_yellow():
    head, watch = Head(SIGNAL, OWN, T0), Bystander(SIGNAL)
    for second in range(120):
        if second == 5:
            head.fail("drill")
        if second == 6:
            head.recover()
        watch.look(T0 + second, head.step(T0 + second))
    assert not watch.counts
    assert head.mode == "own"


def test_lamps_that_show_something_else_flash_at_once():
    head = Head(SIGNAL, OWN, T0)
    run(head, T0, 5)
    head.check_lamps("Grr")
    assert head.mode == "own"
    head.check_lamps("GGr")
    assert head.step(T0 + 5) == "ooo"
    assert head.receive(order(1, T0 + 6, ("ooo", 9)), T0 + 6).reason == "failed"
    assert run(head, T0 + 6, 50) == ["ooo"] * 50


@pytest.mark.parametrize("name", ["since_s", "green_from_s", "green_until_s"])
@pytest.mark.parametrize("value", [math.nan, T0 + 1e6])
def test_a_damaged_record_is_replaced_by_the_least_favourable_past(name, value):
    head = Head(SIGNAL, OWN, T0)
    hear = {2: order(1, T0 + 3, ("Grr", 4), ("yrr", 3), ("rrr", 2), ("rGr", 40))}.get
    watch = Bystander(SIGNAL)
    for second in range(150):
        if second == 5:
            head._record = replace(head.record, **{name: np.full(3, value)})
        if message := hear(second):
            head.receive(message, T0 + second)
        watch.look(T0 + second, head.step(T0 + second))
    assert not watch.counts
    assert head.falls[0].reason == "record of the lamps is damaged"


def test_a_flood_of_plans_is_refused():
    head = Head(SIGNAL, OWN, T0)
    run(head, T0, 3)
    answers = [head.receive(order(v, T0 + 4, ("Grr", 9)), T0 + 3) for v in range(40)]
    assert sum(a.accepted for a in answers) == PLANS_AT_ONCE
    assert {a.reason for a in answers if not a.accepted} == {"rate"}
    for second in range(3, 40):
        assert head.receive(order(100 + second, T0 + second + 1, ("Grr", 30)), T0 + second).accepted == (second > 3)
        head.step(T0 + second)


def test_plans_that_change_their_mind_all_the_time_are_refused():
    head = Head(SIGNAL, OWN, T0)
    run(head, T0, 3)
    refused = 0
    for second in range(3, 40):
        for part in range(2):
            goal = ("rGr", "rrG")[part]
            way = (("Grr", 40), ("yrr", 3), ("rrr", 2), (goal, 9))
            answer = head.receive(order(10 * second + part, T0 + second, *way), T0 + second)
            refused += answer.reason == "rate"
        head.step(T0 + second)
    assert refused > 10


def test_plans_may_not_starve_a_link_for_ever():
    head, watch = Head(SIGNAL, OWN, T0), Bystander(SIGNAL)
    answers = set()
    for second in range(600):
        if second >= 2:
            stay = order(second, T0 + second, (head.lamps, 40.0), length_s=12.0)
            answers.add(head.receive(stay, T0 + second).reason)
        watch.look(T0 + second, head.step(T0 + second))
    assert "max red" in answers
    assert {"max red"} <= {f.reason for f in head.falls}
    rules = rules_of(SIGNAL)
    assert watch.longest_red_s <= rules.max_red_s + rules.shortest_wait_s + 2 * FIXED.cycle_s
    assert not watch.counts


def test_a_red_that_its_own_detectors_see_nobody_at_starves_nobody():
    head = Head(SIGNAL, OWN, T0)
    nobody, rules = np.array([False, True, True]), rules_of(SIGNAL)
    long_s = int(2 * (rules.max_red_s + rules.shortest_wait_s))

    def stay(from_s, until_s, unwanted):
        answers = set()
        for second in range(from_s, until_s):
            head.vouch(unwanted, T0 + second)
            answers.add(head.receive(order(second, T0 + second, ("Grr", 40.0), length_s=12.0), T0 + second).reason)
            head.step(T0 + second)
        return answers

    assert stay(1, long_s, nobody) == {""}
    assert head.lamps == "Grr"
    assert "max red" in stay(long_s, 2 * long_s, np.array([False, True, False])), "somebody waits at the third"
    assert any(fall.reason == "max red" for fall in head.falls)


EVENING_SECONDS = [9, 3, 2, 25, 3, 2, 11, 3, 2]


def by_the_clock(*changes, offset_s=0.0, period_s=0.0):
    """The three ways with a second programme, numbered 1, that a timetable puts in force."""
    phases = tuple(
        replace(p, duration_s=float(d)) for p, d in zip(SIGNAL.programme.phases, EVENING_SECONDS, strict=True)
    )
    evening = replace(SIGNAL.programme, id="evening", offset_s=float(offset_s), phases=phases)
    return replace(SIGNAL, programmes=(SIGNAL.programme, evening), schedule=Schedule(tuple(changes), float(period_s)))


def judged(signal, head, from_s, seconds, hear=lambda second: None):
    """Lamps, with what an outsider finds wrong with them. Each programme by itself is sound."""
    watch = Bystander(signal)
    shown = run(head, from_s, seconds, hear)
    for second, state in enumerate(shown):
        watch.look(from_s + second, state)
    return shown, dict(watch.counts)


@given(st.integers(60, 200), st.integers(0, 59), st.integers(0, 40))
def test_the_timetable_changes_programmes_safely_at_any_second(change_s, offset_s, period):
    """From one into the other at once where that is safe, else through an interstage; then in step."""
    period_s = 400.0 if period > 20 else 0.0
    signal = by_the_clock((float(change_s), 1), (float(change_s + 150), 0), offset_s=offset_s, period_s=period_s)
    own = own_programmes(signal, epoch_of_zero_s=T0)
    head = Head(signal, own, T0)
    shown, violations = judged(signal, head, T0, 700)
    assert not violations
    assert shown[:change_s] == [own.plans[0].state_at(T0 + s) for s in range(change_s)]
    assert shown[change_s + 149] == own.plans[1].state_at(T0 + change_s + 149)
    assert not head.falls
    last = 1 if period_s and change_s <= 699 - 400 < change_s + 150 else 0
    if min(abs(699 - change_s - lap) for lap in (0, 150, 400, 550)) > 120:
        assert shown[699] == own.plans[last].state_at(T0 + 699)


@given(st.integers(0, 59))
def test_a_change_that_is_safe_at_once_is_made_at_once(second):
    """Into itself, a programme goes on as if nothing had been."""
    signal = replace(
        SIGNAL, programmes=(SIGNAL.programme, SIGNAL.programme), schedule=Schedule(((120.0 + second, 1),))
    )
    shown, _ = judged(signal, Head(signal, own_programmes(signal, epoch_of_zero_s=T0), T0), T0, 300)
    assert shown == [FIXED.state_at(T0 + s) for s in range(300)]


@given(st.integers(20, 100), st.integers(0, 59))
def test_whoever_falls_silent_after_the_change_comes_home_to_the_new_programme(change_s, offset_s):
    signal = by_the_clock((float(change_s), 1), offset_s=offset_s)
    own = own_programmes(signal, epoch_of_zero_s=T0)
    plan = order(1, T0 + 2, ("Grr", 5), length_s=60.0)
    shown, violations = judged(signal, Head(signal, own, T0), T0, 300, lambda s: plan if s % 8 == 0 else None)
    assert not violations
    assert shown[200:] == [own.plans[1].state_at(T0 + s) for s in range(200, 300)]


def test_a_signal_is_switched_off_for_the_night_and_on_again():
    signal = by_the_clock((100.0, OFF), (200.0, 0))
    own = own_programmes(signal, epoch_of_zero_s=T0)
    shown, violations = judged(signal, Head(signal, own, T0), T0, 400)
    assert not violations
    assert set(shown[150:200]) == {"ooo"}
    assert shown[300:] == [own.plans[0].state_at(T0 + s) for s in range(300, 400)]


def test_a_clock_that_jumps_over_a_change_finds_the_right_programme():
    signal = by_the_clock((1000.0, 1))
    own = own_programmes(signal, epoch_of_zero_s=T0)
    head = Head(signal, own, T0)
    run(head, T0, 50)
    run(head, T0 + 2000, 150)
    assert run(head, T0 + 2150, 100) == [own.plans[1].state_at(T0 + 2150 + s) for s in range(100)]
    run(head, T0 + 300, 150)
    assert run(head, T0 + 450, 100) == [own.plans[0].state_at(T0 + 450 + s) for s in range(100)]


def test_an_order_is_judged_by_the_programme_that_will_be_in_force():
    """At 125 s the evening's programme has been in force for long enough to show its own stage."""
    signal = by_the_clock((60.0, 1))
    own = own_programmes(signal, epoch_of_zero_s=T0)
    head = Head(signal, own, T0)
    run(head, T0, 20)
    state = own.at(T0 + 140).state_at(T0 + 139)
    assert state != own.plans[0].state_at(T0 + 139)
    assert head.receive(order(1, T0 + 140, (state, 9)), T0 + 20).accepted
