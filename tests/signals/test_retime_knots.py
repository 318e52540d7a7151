"""Plans of close signals: vehicles let in without a way on while the other direction may stand there."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from networks.readers.sumo import read_sumo
from signals.retime_flows import SignalMap, count_turns
from signals.retime_knots import KnotGauge, find_close
from signals.retime_moves import Mover
from signals.retime_plans import PlanMaker, StageTiming, shipped_timing
from signals.retime_pool import stage_pool
from signals.retime_score import Outcome, Sample, Trial
from signals.retime_search import Search
from signals.retime_starts import JunctionTimer, load_of
from tests.signals.drawn_junctions import close_pair_net, crossroads

PAIR = read_sumo(close_pair_net())
MAKER = PlanMaker(PAIR)
POOLS = [stage_pool(PAIR, s, np.ones(s.link_count), "built") for s in PAIR.signals]
SHIPPED = {n: timing for n in range(2) if (timing := shipped_timing(MAKER, n)) is not None}
GAUGE = KnotGauge(MAKER, POOLS, SHIPPED)


def lanes_of(signal: int, state: str) -> set[str]:
    """Lanes on which a stage lets somebody go."""
    moves = PAIR.movements
    return {
        PAIR.lanes.ids[moves.from_lane[m]]
        for m in np.flatnonzero(moves.signal == signal)
        if state[moves.link[m]] in "Gg"
    }


def along(signal: int) -> str:
    """A stage of the street itself, turns included."""
    return next(s for s in POOLS[signal] if not any(lane[1:2] in "ns" for lane in lanes_of(signal, s)))


def across(signal: int) -> str:
    """A stage of the side streets."""
    return next(s for s in POOLS[signal] if all(lane[1:2] in "ns" for lane in lanes_of(signal, s)))


def test_only_signals_a_few_vehicles_apart_whose_queues_meet_are_a_knot() -> None:
    assert [knot.signals for knot in find_close(PAIR, POOLS)] == [(0, 1)]
    alone = crossroads()
    shipped = [[stage.state for stage in signal.stages] for signal in alone.signals]
    assert find_close(alone, shipped) == ()


def test_side_streets_that_fill_the_street_between_at_once_tempt_fate_all_that_time() -> None:
    """Both side streets turn into the short street while both its ends are shut: one in each other's way."""
    stages = [(across(n), along(n)) for n in range(2)]
    together = {n: StageTiming(stages[n], (30, 30)) for n in range(2)}
    cycles = {MAKER.cycle_s(n, t) for n, t in together.items()}
    assert len(cycles) == 1
    assert GAUGE.risk_frac(together) >= 0.4


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 200), st.integers(5, 40), st.integers(5, 40))
def test_the_risk_is_a_share_that_hangs_on_no_clock(shift_s: int, first_s: int, second_s: int) -> None:
    timings = {n: StageTiming((across(n), along(n)), (first_s, second_s), 7 * n) for n in range(2)}
    risk = GAUGE.risk_frac(timings)
    assert 0.0 <= risk <= 1.0
    cycle_s = MAKER.cycle_s(0, timings[0])
    later = {n: replace(t, offset_s=(t.offset_s + shift_s) % cycle_s) for n, t in timings.items()}
    if MAKER.cycle_s(1, timings[1]) == cycle_s:
        assert GAUGE.risk_frac(later) == pytest.approx(risk)


class Flat:
    """A scorer to which all timings are alike."""

    def measure(self, trials: Sequence[Trial]) -> list[Outcome]:
        nothing = np.zeros(len(PAIR.edges.ids))
        return [Outcome(1, 10.0, 10.0, nothing, 1.0, False, np.zeros(0)) for _ in trials]


def test_a_wary_search_unties_what_costs_nothing_to_untie() -> None:
    flows = count_turns(PAIR, [], 3600.0)
    timer = JunctionTimer(MAKER, [load_of(flows, n) for n in range(2)], POOLS)
    rng = random.Random(5)
    edges = np.arange(len(PAIR.edges.ids), dtype=np.int32)
    signals = SignalMap((np.zeros(1, np.int32),) * 2, (edges, edges), ())
    search = Search(
        Mover(MAKER, timer, rng, frozenset((0, 1))), signals, Flat(), [(Sample(1),)], [Sample(2)], {1.0: 10.0}, rng,
        (), knots=GAUGE, knot_cost=0.3,
    )  # fmt: skip
    start = {n: StageTiming((across(n), along(n)), (30, 30)) for n in range(2)}
    search.begin(start)
    search.improve(lambda: search.rounds / 300)
    assert GAUGE.risk_frac(search.best) < 0.5 * GAUGE.risk_frac(start)
