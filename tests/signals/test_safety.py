"""Nothing unsafe passes, nothing safe is refused."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from networks.errors import UnsafePlanError
from signals.lamps import LampRecord
from signals.plan import ApprovedPlan, LampStep, SignalPlan
from signals.safety import approve, find_change_violations, find_violations
from tests.signals.naive_safety import broken_rules
from tests.signals.strategies_signals import honest_walks, hostile_plans, make_signal, signals

# Links: 0 through, 1 left turn yielding to 0, 2 cross street, 3 crosswalk over the cross street's exit.
FOES = np.array([[0, 1, 1, 0], [1, 0, 1, 1], [1, 1, 0, 1], [0, 1, 1, 0]], bool)
CROSS = make_signal(["GgrG", "rGrr", "rrGr"], FOES, pedestrian={3})
START_S = 1000.0


def plan_of(*steps, signal=CROSS, length_s=None, **changes):
    lamps = tuple(LampStep(state, float(seconds)) for state, seconds in steps)
    length_s = length_s or sum(s.duration_s for s in lamps)
    return replace(SignalPlan(0, signal.id, lamps, START_S, START_S + length_s), **changes)


def rules_broken(plan, lamps="GgrG", signal=CROSS, **options):
    record = LampRecord.start(lamps, START_S) if isinstance(lamps, str) else lamps
    return {(v.rule, v.links) for v in find_violations(plan, signal, record, **options)}


def test_a_correct_change_of_stage_is_safe():
    plan = plan_of(("GgrG", 6), ("yyry", 3), ("rrrr", 4), ("rrGr", 10))
    assert rules_broken(plan) == set()
    approved = approve(plan, CROSS, LampRecord.start("GgrG", START_S), now_s=START_S - 1, version=4)
    assert approved.plan is plan
    assert approved.version == 4


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([("GgrG", 6), ("GgGG", 6)], ("conflict", (0, 2))),
        ([("GgrG", 6), ("yyry", 3), ("rrrr", 3), ("rrGr", 9)], ("pedestrian clearance", (3, 2))),
        ([("GgrG", 6), ("rgrG", 9)], ("yellow", (0,))),
        ([("GgrG", 6), ("ygrG", 2), ("rgrG", 9)], ("yellow", (0,))),
        ([("GgrG", 6), ("GgyG", 5)], ("yellow", (2,))),
        ([("GgrG", 6), ("ygrG", 3), ("GgrG", 9)], ("yellow", (0,))),
        ([("GGrr", 6)], ("priority", (0, 1))),
        ([("GgrG", 3), ("GyrG", 3), ("GrrG", 4), ("GgrG", 4), ("GyrG", 3)], ("min green", (1,))),
        ([("GgrG", 130)], ("max red", (2,))),
    ],
)
def test_each_rule_is_found(steps, expected):
    assert expected in rules_broken(plan_of(*steps))


# The same junction with a night programme: all flashing, and the crosswalk dark beside the traffic it waits for.
NIGHT = replace(
    CROSS, programmes=(*CROSS.programmes, make_signal(["oooO", "rrGO"], FOES, pedestrian={3}).programmes[0])
)


@pytest.mark.parametrize(
    ("lamps", "steps", "expected"),
    [
        ("GgrG", [("yyry", 3), ("rrrr", 4), ("oooO", 30)], set()),
        ("oooO", [("rrrr", 7), ("GgrG", 9)], set()),
        ("GgrG", [("oooO", 30)], {("yellow", (k,)) for k in (0, 1, 3)}),
        ("oooO", [("rrrr", 6), ("rrGr", 9)], {("pedestrian clearance", (3, 2))}),
        ("GgrG", [("yyry", 3), ("oooO", 30)], set()),  # everybody gives way to everybody
        ("GgrG", [("yyry", 3), ("rroO", 30)], {("intergreen", pair) for pair in ((0, 2), (1, 2), (1, 3))}),
        ("rrrr", [("rroG", 30)], {("off", (2, 3))}),
        ("rrrr", [("rrGO", 30)], set()),
        ("oooO", [("rryr", 3), ("rrrr", 20)], {("yellow", (2,))}),
    ],
)
def test_going_off_is_a_start_and_coming_back_an_end(lamps, steps, expected):
    assert rules_broken(plan_of(*steps, signal=NIGHT), lamps, NIGHT) == expected


def test_letters_that_no_shipped_phase_shows_are_refused():
    assert ("letters", (0,)) in rules_broken(plan_of(("oooo", 30)))
    assert ("letters", (0,)) in rules_broken(plan_of(("OooO", 30)), "oooO", NIGHT)


def test_two_foes_may_not_both_give_way_unless_a_shipped_phase_shows_that():
    """Shipped: link 1 shows yellow while 0 has its g already, so they do not conflict; but never both green."""
    foes = np.array([[0, 1], [1, 0]], bool)
    signal = make_signal(["Gr", "rG"], foes)
    phase = signal.programme.phases[0]
    programme = replace(signal.programme, phases=(*signal.programme.phases, replace(phase, state="gy")))
    signal = replace(signal, programmes=(programme,), conflicts=foes & False)
    record = LampRecord.start("gr", START_S)
    assert ("priority", (0, 1)) in rules_broken(plan_of(("gg", 9)), record, signal)


def test_a_red_that_ends_in_a_stray_yellow_is_still_too_long():
    record = replace(LampRecord.start("GgrG", START_S), since_s=np.full(4, START_S - 100))
    found = rules_broken(plan_of(("GgrG", 40), ("Ggyr", 3)), record)
    assert {("max red", (2,)), ("yellow", (2,))} <= found


def test_the_longest_green_holds_where_one_is_given():
    record = LampRecord.start("rrrr", START_S - 20).then("GgrG", START_S - 10)
    plan = plan_of(("GgrG", 25), ("yyry", 3), ("rrrr", 4))
    assert rules_broken(plan, record) == set()
    assert rules_broken(plan, record, max_green_s=35.0) == set()
    assert rules_broken(plan, record, max_green_s=34.0) == {("max green", (k,)) for k in (0, 1, 3)}
    standing = plan_of(("GgrG", 25), length_s=60.0)
    assert ("max green", (0,)) in rules_broken(standing, record, max_green_s=50.0)


def test_intergreen_counts_from_what_happened_before_the_plan():
    record = LampRecord.start("rrGr", START_S - 30).then("rryr", START_S - 3).then("rrrr", START_S)
    too_early = plan_of(("GrrG", 20))
    assert ("intergreen", (2, 0)) in rules_broken(too_early, record)
    assert rules_broken(plan_of(("rrrr", 1), ("GrrG", 20)), record) == set()


def test_a_permissive_turn_may_not_become_protected_before_its_foes_have_cleared():
    lamps = "GgrG"
    early = plan_of(("ygry", 3), ("rGrr", 10))
    assert ("intergreen", (0, 1)) in rules_broken(early, lamps)
    assert rules_broken(plan_of(("ygry", 3), ("rgrr", 4), ("rGrr", 10)), lamps) == set()


def test_a_green_still_running_at_the_end_of_a_plan_is_not_short():
    assert rules_broken(plan_of(("yyry", 3), ("rrrr", 4), ("rrGr", 1))) == set()


def test_a_yellow_found_at_the_start_must_be_completed():
    record = LampRecord.start("GgrG", START_S - 30).then("yyry", START_S - 1)
    assert ("yellow", (0,)) in rules_broken(plan_of(("rrrr", 9)), record)
    assert rules_broken(plan_of(("yyry", 2), ("rrrr", 9)), record) == set()


def test_an_overdue_link_may_be_served_at_once_but_not_put_off():
    """Whatever went before, a plan that opens the overdue link as soon as the lamps allow is no offence."""
    record = replace(
        LampRecord.start("GgrG", START_S), since_s=np.array([-math.inf, -math.inf, START_S - 500, -math.inf])
    )
    assert rules_broken(plan_of(("yyry", 3), ("rrrr", 4), ("rrGr", 20)), record) == set()
    assert ("max red", (2,)) in rules_broken(plan_of(("GgrG", 20), ("yyry", 3), ("rrrr", 4), ("rrGr", 20)), record)


def test_a_red_counts_from_the_first_sight_whatever_else_changes():
    plan = plan_of(("Ggry", 3), ("Ggrr", 40))
    long_seen = LampRecord.start("GgrG", START_S - 170).then("Ggry", START_S - 1)
    assert rules_broken(plan, long_seen) == {("max red", (2,))}
    assert rules_broken(plan, LampRecord.start("GgrG", START_S - 20).then("Ggry", START_S - 1)) == set()


def test_the_wait_at_red_begins_when_a_free_arrow_goes_out():
    free = LampRecord.start("s", START_S - 500)
    assert free.since_s[0] == -math.inf
    assert free.then("r", START_S).since_s[0] == START_S


def test_max_green_holds_only_when_given():
    plan = plan_of(("GgrG", 50), ("yyry", 3), ("rrrr", 4), ("rrGr", 45))
    assert rules_broken(plan) == set()
    assert rules_broken(plan, max_green_s=40.0) == {("max green", (2,))}  # the first green began before we know


def test_a_cycle_is_judged_across_its_seam():
    steps = (("GgrG", 10), ("yyry", 3), ("rrrr", 4), ("rrGr", 10), ("rryr", 3))
    assert ("intergreen", (2, 0)) in rules_broken(plan_of(*steps, repeats=True, valid_until_s=math.inf), None)
    whole = plan_of(*steps, ("rrrr", 1), repeats=True, valid_until_s=math.inf, offset_s=7.0)
    assert rules_broken(whole, None) == set()


def test_a_cycle_that_lets_a_link_wait_too_long_is_refused_for_whatever_part_of_it_holds():
    """Half a minute in which the link opens at once, after a red that was too long in every cycle before."""
    steps = (("GgrG", 300), ("yyry", 3), ("rrrr", 4), ("rrGr", 12), ("rryr", 3), ("rrrr", 2))
    part = plan_of(*steps, repeats=True, length_s=30.0, offset_s=START_S - 299.0)
    assert ("max red", (2,)) in rules_broken(part, None)
    shorter = plan_of(("GgrG", 60), *steps[1:], repeats=True, length_s=30.0, offset_s=START_S - 59.0)
    assert rules_broken(shorter, None) == set()


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"signal_id": "T"}, "signal"),
        ({"steps": ()}, "steps"),
        ({"steps": (LampStep("GgrGr", 9.0),)}, "steps"),
        ({"steps": (LampStep("GgrX", 9.0),)}, "letters"),
        ({"steps": (LampStep("Ggr世", 9.0),)}, "letters"),
        ({"steps": (LampStep("Ggos", 9.0),)}, "letters"),
        ({"steps": (LampStep("GgrG", 2.5),)}, "times"),
        ({"steps": (LampStep("GgrG", -3.0),)}, "times"),
        ({"steps": (LampStep("GgrG", math.nan),)}, "times"),
        ({"steps": (LampStep("GgrG", math.inf),)}, "times"),
        ({"steps": (LampStep("GgrG", 1.0),) * 5000}, "steps"),
        ({"valid_from_s": math.nan}, "times"),
        ({"valid_from_s": START_S + 0.5}, "times"),
        ({"valid_until_s": START_S}, "times"),
        ({"valid_until_s": math.inf}, "times"),
        ({"valid_until_s": math.nan}, "times"),
        ({"offset_s": math.inf, "repeats": True}, "times"),
        ({"offset_s": 1e300, "repeats": True}, "times"),
    ],
)
def test_what_is_no_plan_is_refused(change, rule):
    assert rule in {r for r, _ in rules_broken(plan_of(("GgrG", 10), **change))}


def test_records_that_cannot_be_the_start_are_refused():
    plan = plan_of(("GgrG", 10))
    for record in (
        LampRecord.start("GgrGG", START_S),
        LampRecord.start("Gg?G", START_S),
        LampRecord.start("GgrG", START_S + 1),
        replace(LampRecord.start("GgrG", START_S), since_s=np.full(4, math.nan)),
    ):
        assert {r for r, _ in rules_broken(plan, record)} == {"lamps"}


def test_only_the_proof_makes_approved_plans():
    plan = plan_of(("GgrG", 10))
    approved = approve(plan, CROSS, LampRecord.start("GgrG", START_S), now_s=START_S, version=0)
    with pytest.raises(UnsafePlanError):
        ApprovedPlan(plan, 1, START_S, "trust me", object())
    with pytest.raises(UnsafePlanError):
        replace(approved, plan=plan_of(("GGGG", 10)))
    assert replace(approved, version=2).plan is plan


def test_a_plan_of_the_past_is_not_approved():
    record = LampRecord.start("GgrG", START_S)
    plan = plan_of(("GgrG", 10))
    for now_s in (START_S + 3, START_S + 10, math.nan):
        with pytest.raises(UnsafePlanError):
            approve(plan, CROSS, record, now_s=now_s, version=0)
    with pytest.raises(UnsafePlanError, match="version"):
        approve(plan, CROSS, record, now_s=START_S, version=-1)


def test_the_fingerprint_tells_proofs_apart():
    record = LampRecord.start("GgrG", START_S)
    proofs = {
        approve(p, CROSS, r, now_s=START_S, version=0).proof
        for p in (plan_of(("GgrG", 10)), plan_of(("GgrG", 11)))
        for r in (record, replace(record, since_s=np.full(4, -9.0)))
    }
    assert len(proofs) == 4


def test_the_fingerprint_depends_on_values_not_on_their_types():
    plan, record = plan_of(("GgrG", 10.0)), LampRecord.start("GgrG", START_S)
    of_arrays = replace(
        plan,
        steps=tuple(LampStep(s.state, np.float64(s.duration_s)) for s in plan.steps),
        valid_from_s=np.float64(plan.valid_from_s),
        valid_until_s=int(plan.valid_until_s),
        offset_s=0,
        repeats=np.bool_(False),
    )
    proofs = {approve(p, CROSS, record, now_s=START_S, version=0).proof for p in (plan, of_arrays)}
    assert len(proofs) == 1


@settings(max_examples=150)
@given(st.data())
def test_the_proof_agrees_with_a_second_by_second_checker(data):
    signal = data.draw(signals())
    record, plan = data.draw(hostile_plans(signal))
    found = {(v.rule, v.links) for v in find_violations(plan, signal, record)}
    expected = broken_rules(plan, signal, record)
    if ("more", ()) in found:
        assert expected
    else:
        assert found == expected


@settings(max_examples=60)
@given(st.data(), st.integers(5, 40))
def test_the_longest_green_is_judged_as_second_by_second(data, max_green_s):
    signal = data.draw(signals())
    record, plan = data.draw(hostile_plans(signal))
    found = {(v.rule, v.links) for v in find_violations(plan, signal, record, max_green_s=float(max_green_s))}
    if ("more", ()) not in found:
        assert found == broken_rules(plan, signal, record, max_green_s=float(max_green_s))


@settings(max_examples=100)
@given(st.data())
def test_an_endless_cycle_is_safe_just_when_it_never_breaks_a_rule(data):
    signal = data.draw(signals(most_links=4))
    record, plan = data.draw(hostile_plans(signal))
    plan = replace(plan, repeats=True, valid_until_s=math.inf)
    found = {(v.rule, v.links) for v in find_violations(plan, signal, record)}
    if ("more", ()) not in found:
        assert found == broken_rules(plan, signal, record, until_s=START_S + 5 * plan.cycle_s + 400)


@settings(max_examples=100)
@given(st.data())
def test_a_cycle_judged_alone_is_judged_in_its_steady_state(data):
    signal = data.draw(signals(most_links=4))
    _, plan = data.draw(hostile_plans(signal))
    plan = replace(plan, repeats=True, valid_until_s=math.inf)
    found = {(v.rule, v.links) for v in find_violations(plan, signal, None)}
    earlier = replace(plan, valid_from_s=plan.valid_from_s - plan.cycle_s)
    if ("more", ()) not in found:
        until_s = START_S + 4 * plan.cycle_s + 400
        assert found == broken_rules(earlier, signal, None, until_s=until_s, judged_from_s=START_S)


@settings(max_examples=100)
@given(st.data())
def test_walks_through_interstages_are_never_refused_but_for_starving_a_link(data):
    signal = data.draw(signals())
    record, plan = data.draw(honest_walks(signal))
    assert {v.rule for v in find_violations(plan, signal, record)} <= {"max red"}


@settings(max_examples=80)
@given(st.data())
def test_the_monitor_sees_change_by_change_what_the_proof_sees_at_once(data):
    signal = data.draw(signals())
    record, plan = data.draw(hostile_plans(signal))
    now, seen = record, set()
    for second in range(int(plan.valid_from_s), int(plan.valid_until_s)):
        state = plan.state_at(second)
        if state != now.state:
            seen |= {(v.rule, v.links) for v in find_change_violations(signal, now, state, float(second))}
            now = now.then(state, float(second))
    proven = {(v.rule, v.links) for v in find_violations(plan, signal, record)}
    if not {"more", "letters"} & {rule for rule, _ in proven}:
        assert seen <= proven


def test_a_red_that_nobody_waits_at_counts_from_the_last_moment_at_which_that_was_known():
    record = LampRecord.start("GgrG", START_S - 100.0)
    plan = plan_of(("GgrG", 60))
    assert rules_broken(plan, record.then("GgrG", START_S)) == {("max red", (2,))}
    later = record.then("GgrG", START_S - 30.0).vouched(np.ones(4, bool), START_S - 30.0)
    assert rules_broken(plan, later.then("GgrG", START_S)) == set()
    assert rules_broken(plan_of(("GgrG", 100)), later.then("GgrG", START_S)) == {("max red", (2,))}


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_detectors_that_vouch_for_nobody_loosen_the_longest_red_and_nothing_else(data):
    signal = data.draw(signals())
    record, plan = data.draw(hostile_plans(signal))
    record = replace(record, since_s=record.since_s - data.draw(st.integers(0, 250)))
    unwanted = np.array(data.draw(st.lists(st.booleans(), min_size=signal.link_count, max_size=signal.link_count)))

    def judged(lamps):
        found = find_violations(plan, signal, lamps)
        return [v for v in found if v.rule != "max red"], {v.links for v in found if v.rule == "max red"}

    others, reds = judged(record)
    vouched_others, vouched_reds = judged(record.vouched(unwanted, plan.valid_from_s))
    assert vouched_others == others
    assert vouched_reds <= reds
