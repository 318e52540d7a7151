"""The arbiter: priority, then cost, and nothing unsafe."""

from __future__ import annotations

import math
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from signals.arbiter import decide
from signals.lamps import LampRecord
from signals.plan import LampStep, Proposal, SignalPlan
from tests.signals.strategies_signals import hostile_plans, signals
from tests.signals.test_safety import CROSS

OTHER = replace(CROSS, id="T")
SAFE = SignalPlan(0, "S", (LampStep("GgrG", 10.0),), 1000.0, 1020.0)
UNSAFE = replace(SAFE, steps=(LampStep("GGGG", 10.0),))
LAMPS = [LampRecord.start("GgrG", 1000.0)] * 2


def proposal(plan, cost, priority=0):
    return Proposal(plan, cost, cost + 1.0, 3.0, priority)


def test_the_cheapest_of_the_highest_priority_is_chosen():
    cheap, dear, urgent = proposal(SAFE, 1.0), proposal(SAFE, 5.0), proposal(SAFE, 9.0, priority=1)
    for proposals, expected in (([dear, cheap], cheap), ([cheap, urgent, dear], urgent)):
        decision = decide(proposals, [CROSS], LAMPS[:1], now_s=999.0, first_version=7)
        assert decision.chosen == (expected,)
        assert [a.version for a in decision.approved] == [7]


def test_an_unsafe_favourite_gives_way_to_the_next_and_is_reported():
    bad, good = proposal(UNSAFE, 1.0, priority=2), proposal(SAFE, 5.0)
    decision = decide([bad, good], [CROSS], LAMPS[:1], now_s=999.0, first_version=0)
    assert decision.chosen == (good,)
    ((refused, violations),) = decision.refused
    assert refused is bad
    assert {v.rule for v in violations} == {"conflict", "priority"}


def test_every_signal_gets_at_most_one_plan_and_its_own_version():
    plans = [proposal(SAFE, 1.0), proposal(replace(SAFE, signal=1, signal_id="T"), 1.0)]
    decision = decide(plans, [CROSS, OTHER], LAMPS, now_s=999.0, first_version=3)
    assert [(a.plan.signal_id, a.version) for a in decision.approved] == [("S", 3), ("T", 4)]


def test_plans_for_nobody_and_for_unseen_lamps_are_refused():
    lost = proposal(replace(SAFE, signal=9), 1.0)
    decision = decide([lost, proposal(SAFE, 1.0)], [CROSS], [None], now_s=999.0, first_version=0)
    assert decision.approved == ()
    assert [v[0].rule for _, v in decision.refused] == ["signal", "lamps"]


@settings(max_examples=60)
@given(st.data())
def test_no_proposal_makes_it_raise(data):
    signal = data.draw(signals())
    record, plan = data.draw(hostile_plans(signal))
    number = st.sampled_from([math.nan, math.inf, -math.inf, 0.5, 1000.0, -1e300])
    for name in data.draw(st.sets(st.sampled_from(["valid_from_s", "valid_until_s", "offset_s"]))):
        plan = replace(plan, **{name: data.draw(number)})
    index = data.draw(st.sampled_from([0, 0, -1, 3]))
    proposals = [proposal(replace(plan, signal=index), data.draw(number)), proposal(plan, math.nan)]
    decision = decide(proposals, [signal], [record], now_s=999.0, first_version=0)
    assert len(decision.approved) + len(decision.refused) <= 2
