"""The retimer's parts: seconds shared out, timings proven, stages built, delay by formula, moves that stay safe."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from networks.errors import UnsafePlanError
from networks.graph import Network, Signal
from signals.delay import hcm_delay_s, webster_cycle_s
from signals.retime_flows import SignalMap, Stretch
from signals.retime_moves import Mover
from signals.retime_plans import PlanMaker, StageTiming, share_seconds, shipped_timing
from signals.retime_pool import grow
from signals.retime_score import Outcome, Sample, Trial
from signals.retime_search import Search
from signals.retime_starts import JunctionLoad, JunctionTimer
from signals.safety import find_violations
from tests.signals.small_graphs import Road, small_network
from tests.signals.strategies_signals import make_signal, signals

TWO = (("Gr", "rG"), np.array([[False, True], [True, False]]))


def network_of(signal: Signal) -> Network:
    return replace(small_network([Road("a", "b", 100.0), Road("b", "c", 100.0)]), signals=(signal,))


def timer_of(signal: Signal, flow_vps: Sequence[float], saturation_vps: float = 0.5) -> JunctionTimer:
    """A timer whose links have one lane and the given flow each."""
    count = len(flow_vps)
    rows = np.arange(count, dtype=np.int32)
    load = JunctionLoad(rows, np.array(flow_vps), np.full(count, saturation_vps), rows, count)
    return JunctionTimer(PlanMaker(network_of(signal)), [load], [tuple(s.state for s in signal.stages)])


@given(st.integers(5, 200), st.lists(st.floats(0.0, 50.0), min_size=1, max_size=6), st.integers(1, 8))
def test_shared_seconds_add_up_and_keep_the_least(total_s: int, weights: list[float], least_s: int) -> None:
    greens_s = share_seconds(total_s, weights, least_s)
    if greens_s is None:
        assert total_s < least_s * len(weights)
    else:
        assert sum(greens_s) == total_s
        assert min(greens_s) >= least_s


@settings(max_examples=60)
@given(st.data())
def test_no_timing_is_both_sound_and_unsafe(data: st.DataObject) -> None:
    signal = data.draw(signals())
    maker = PlanMaker(network_of(signal))
    states = data.draw(st.lists(st.sampled_from([s.state for s in signal.stages]), min_size=1, max_size=4))
    greens_s = tuple(data.draw(st.integers(1, 30)) for _ in states)
    timing = StageTiming(tuple(states), greens_s, data.draw(st.integers(0, 40)))
    if maker.is_sound(0, timing):
        plan = maker.prove(0, timing)
        assert not find_violations(plan, signal, None)
        assert plan.cycle_s == maker.cycle_s(0, timing)
    else:
        with pytest.raises(UnsafePlanError):
            maker.prove(0, timing)


@settings(max_examples=60)
@given(st.data())
def test_built_stages_hold_no_conflict_and_can_be_proven(data: st.DataObject) -> None:
    signal = data.draw(signals())
    seed = [data.draw(st.integers(0, signal.link_count - 1))]
    protected = data.draw(st.booleans())
    state = grow(signal, seed, range(signal.link_count), protected=protected)
    assert state
    opened = [k for k in range(signal.link_count) if state[k] in "Gg"]
    assert not signal.conflicts[np.ix_(opened, opened)].any()
    if protected:
        assert not signal.foes[np.ix_(opened, opened)].any()
    maker = PlanMaker(network_of(signal))
    longest_s = int(signal.max_red_s) // 3
    for stage in signal.stages:
        if stage.state != state:
            plan = maker.plan(0, StageTiming((stage.state, state), (min(30, longest_s), min(30, longest_s))))
            assert {v.rule for v in find_violations(plan, signal, None)} <= {"max red"}


def test_a_shipped_programme_keeps_its_cycle() -> None:
    signal = make_signal(*TWO)
    maker = PlanMaker(network_of(signal))
    timing = shipped_timing(maker, 0)
    if timing is not None:
        assert maker.cycle_s(0, timing) == round(signal.programme.cycle_s)
        assert timing.states == tuple(s.state for s in signal.stages)


def test_the_cycle_is_websters() -> None:
    timer = timer_of(make_signal(*TWO), (0.15, 0.1))
    states = ("Gr", "rG")
    lost_s = timer.maker.lost_s(0, states) + 2.0
    assert timer.webster_cycle_s(0, states) == round(webster_cycle_s((0.3, 0.2), lost_s))


def test_delay_is_the_manuals() -> None:
    timer = timer_of(make_signal(*TWO), (0.15, 0.1))
    cycle_s = 20.0 + 18.0 + timer.maker.lost_s(0, ("Gr", "rG"))
    expected = 0.15 * hcm_delay_s(cycle_s, 19.0, 0.15, 0.5) + 0.1 * hcm_delay_s(cycle_s, 17.0, 0.1, 0.5)
    assert timer.delay_s(0, ("Gr", "rG"), (20, 18)) == pytest.approx(expected, rel=1e-6)


@given(st.floats(0.02, 0.2), st.floats(0.02, 0.2), st.integers(40, 110))
@settings(max_examples=30)
def test_greens_are_the_best_of_all(first: float, second: float, cycle_s: int) -> None:
    timer = timer_of(make_signal(*TWO), (first, second))
    states = ("Gr", "rG")
    found = timer.best_greens(0, states, cycle_s)
    assert found is not None
    spare_s = cycle_s - timer.maker.lost_s(0, states)
    best = min(timer.delay_s(0, states, (g, spare_s - g)) for g in range(5, spare_s - 4))
    assert timer.delay_s(0, states, found) == pytest.approx(best, rel=1e-9)


class Valley:
    """A scorer whose delay is least with equal greens; counts what it measures."""

    def __init__(self, signal: Signal) -> None:
        self.maker, self.measured = PlanMaker(network_of(signal)), 0

    def measure(self, trials: Sequence[Trial]) -> list[Outcome]:
        self.measured += len(trials)
        return [self._one(trial) for trial in trials]

    def _one(self, trial: Trial) -> Outcome:
        greens_s = trial.timings[0].greens_s
        delay_s = 10.0 + float(np.var(greens_s)) + 0.01 * trial.sample.seed
        return Outcome(1, delay_s, delay_s, np.full(2, delay_s / 2), 1.0, False, np.zeros(0))


def search_of(scorer: Valley, seed: int) -> Search:
    timer = timer_of(scorer.maker.network.signals[0], (0.1, 0.1))
    rng = random.Random(seed)
    signals_map = SignalMap((np.zeros(1, np.int32),), (np.arange(2, dtype=np.int32),), ())
    pairs = [(Sample(1), Sample(2)), (Sample(3), Sample(4))]
    return Search(
        Mover(scorer.maker, timer, rng, frozenset()), signals_map, scorer, pairs, [Sample(9)], {1.0: 10.0}, rng, ()
    )


def test_the_search_finds_the_valley_and_repeats_itself() -> None:
    def run() -> tuple[dict[int, StageTiming], float]:
        search = search_of(Valley(make_signal(*TWO)), 3)
        search.begin({0: StageTiming(("Gr", "rG"), (40, 10))})
        search.improve(lambda: search.rounds / 200)
        return search.best, search.best_cost

    best, cost = run()
    assert max(best[0].greens_s) - min(best[0].greens_s) <= 2
    assert run() == (best, cost)


def test_an_interrupted_search_keeps_its_best() -> None:
    search = search_of(Valley(make_signal(*TWO)), 3)
    start = {0: StageTiming(("Gr", "rG"), (40, 10))}
    search.begin(start)

    def stop(at: Search) -> None:
        if at.rounds == 60:
            raise KeyboardInterrupt

    search.told = stop
    with pytest.raises(KeyboardInterrupt):
        search.improve(lambda: search.rounds / 200)
    assert search.best_cost < math.inf
    assert search.best_cost <= search.cost_of(search.scorer.measure([Trial(start, Sample(9))]), [Sample(9)])


def test_signals_are_grouped_by_traffic_and_distance() -> None:
    none = (np.zeros(0, np.int32),) * 4
    stretches = (
        Stretch(0, 1, 500.0, 20.0, 0, 0),
        Stretch(1, 2, 500.0, 200.0, 0, 0),
        Stretch(2, 3, 10.0, 20.0, 0, 0),
    )
    assert SignalMap(none, none, stretches).groups(100.0) == ((0, 1), (2,), (3,))
