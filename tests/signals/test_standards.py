"""Raising the numbers of a signal raises them everywhere, and lowers none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from signals.lamps import LampRecord
from signals.plan import LampStep, SignalPlan
from signals.rules import rules_of
from signals.safety import find_violations
from signals.standards import Minimums, raise_to
from signals.transitions import transition
from tests.signals.test_safety import CROSS


def plan_through(signal, first, second):
    steps = (*transition(signal, first, second), LampStep(second, 10.0))
    return SignalPlan(0, signal.id, steps, 100.0, 130.0)


def test_interstages_of_the_stricter_signal_suit_both_and_the_other_way_round_not():
    strict = raise_to(CROSS, Minimums(yellow_s=4.0, all_red_s=2.0, walking_mps=1.0))
    start = LampRecord.start("GgrG", 100.0)
    careful, brisk = (plan_through(s, "GgrG", "rrGr") for s in (strict, CROSS))
    assert find_violations(careful, strict, start) == []
    assert {v.rule for v in find_violations(brisk, strict, start)} >= {"yellow", "pedestrian clearance"}


def test_walkers_clear_more_slowly_and_have_time_to_step_off():
    strict = raise_to(CROSS, Minimums())
    assert strict.pedestrian_clearance_s[3] == CROSS.pedestrian_clearance_s[3] * 1.2
    assert strict.min_green_s.tolist() == [5.0, 5.0, 5.0, 7.0]
    assert rules_of(strict).clear_s[3, 2] == 8.0


def test_nothing_is_lowered():
    long = replace(
        CROSS, yellow_s=5.0, all_red_s=3.0, min_green_s=np.full(4, 9.0), intergreen_s=CROSS.intergreen_s * 3
    )
    strict = raise_to(long, Minimums(walking_mps=1.5))
    assert (strict.yellow_s, strict.all_red_s) == (5.0, 3.0)
    for name in ("min_green_s", "intergreen_s", "pedestrian_clearance_s"):
        assert (getattr(strict, name) >= getattr(long, name)).all()
