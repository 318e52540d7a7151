"""Offline retiming of a whole network: what to time, where to start, and the search over a scorer.

Pure: scorers are handed in (`signals.retime_meso.MesoScorer`; SUMO itself in `scenarios.retime_check`). The parts:
retime_plans (what is timed, proven), retime_pool (stages), retime_flows (traffic, neighbourhoods), retime_starts (by
formula), retime_moves (small changes), retime_search (the search), retime_score (what a scorer is), retime_corridor
(green waves), retime_knots (signals that may lock), retime_day (several plans a day).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from networks.graph import Network
from signals.retime_flows import SignalMap, count_turns, map_signals
from signals.retime_knots import KnotGauge
from signals.retime_moves import Mover
from signals.retime_plans import PlanMaker, StageTiming, shipped_timing
from signals.retime_pool import StageSource, stage_pool
from signals.retime_score import Sample, Scorer
from signals.retime_search import FIRST_WARMTH, Search
from signals.retime_starts import JunctionTimer, load_of, progression

START_CYCLES_S = (30, 36, 42, 50, 60, 70, 80, 95, 110, 130)
MOST_APART_FRAC = 0.5  # of the signals may be unable to run a common cycle that counts as one
COORDINATED_FRAC = 0.02  # of all vehicles have to drive from signal to signal before they share a cycle
SEARCH_PAIRS = 8
MORE_DEMAND = 1.15  # plans have to stand this much more traffic, so half of the samples have it


@dataclass(frozen=True, slots=True)
class Task:
    """Everything that is fixed while a network is retimed."""

    maker: PlanMaker
    timer: JunctionTimer
    signals: SignalMap
    groups: tuple[tuple[int, ...], ...]  # signals to be coordinated with one another
    shipped: Mapping[int, StageTiming]  # of every signal that can be retimed
    knots: KnotGauge


def prepare(network: Network, routes: Sequence[Sequence[int]], span_s: float, source: StageSource) -> Task:
    """Flows, neighbourhoods, stages and shipped timings. `routes`: dense edges of each vehicle of the demand.

    Signals whose programme is not a cycle of two or more provable stages keep it, and so are no part of `shipped`.
    """
    flows = count_turns(network, routes, span_s)
    maker = PlanMaker(network)
    pools = [stage_pool(network, s, flows.link_vps(n), source) for n, s in enumerate(network.signals)]
    shipped = {n: timing for n in range(len(network.signals)) if (timing := shipped_timing(maker, n)) is not None}
    signals = map_signals(network, routes)
    return Task(
        maker,
        JunctionTimer(maker, [load_of(flows, n) for n in range(len(network.signals))], pools),
        signals,
        signals.groups(COORDINATED_FRAC * len(routes)),
        shipped,
        KnotGauge(maker, pools, shipped),
    )


def start_timings(task: Task) -> list[dict[int, StageTiming]]:
    """The shipped timings, and for each of several common cycles the best splits of the shipped stages and the best
    stages of the pool, both with progressive offsets; last every signal in Webster's cycle of its own. A signal that
    cannot run a common cycle stays as shipped."""
    starts = [dict(task.shipped)]
    for cycle_s in START_CYCLES_S:
        for built in (False, True):
            timings = {n: formula_timing(task, n, cycle_s, built=built) for n in task.shipped}
            fitting = {n: t for n, t in timings.items() if t is not None}
            if len(timings) - len(fitting) <= MOST_APART_FRAC * len(timings):
                whole = {n: fitting.get(n, task.shipped[n]) for n in task.shipped}
                starts.append(progression(task.maker.network, task.signals, whole, task.maker))
    own = {n: task.timer.webster_cycle_s(n, t.states) for n, t in task.shipped.items()}
    alone = {n: formula_timing(task, n, own[n], built=False) or t for n, t in task.shipped.items()}
    starts.append(progression(task.maker.network, task.signals, alone, task.maker))
    return starts


def formula_timing(task: Task, signal: int, cycle_s: int, *, built: bool) -> StageTiming | None:
    """The best timing by formula in a cycle, of the pool's stages or of the shipped ones; None when none is sound."""
    if built and (found := task.timer.proposals(signal, cycle_s, 1)):
        return found[0]
    states = task.shipped[signal].states
    greens_s = task.timer.best_greens(signal, states, cycle_s)
    timing = None if greens_s is None else StageTiming(states, greens_s)
    return timing if timing is not None and task.maker.is_sound(signal, timing) else None


def sample_pairs(seed: int, count: int, load: float = 1.0) -> tuple[tuple[Sample, ...], ...]:
    """Pairs of samples to search on: `load` times the demand and more of it, with drivers of their own each."""
    first = 10_000 * (seed + 1)
    return tuple((Sample(first + 2 * n, load), Sample(first + 2 * n + 1, load * MORE_DEMAND)) for n in range(count))


def new_search(
    task: Task,
    scorer: Scorer,
    reference: Mapping[float, float],
    *,
    seed: int,
    jury: int,
    load: float = 1.0,
    knot_cost: float = 0.0,
    warmth: float = FIRST_WARMTH,
    fixed: frozenset[int] = frozenset(),
    told: Callable[[Search], None] = lambda search: None,
) -> Search:
    """A search over `scorer` with a jury of so many pairs; equal arguments and rounds give equal timings."""
    pairs = sample_pairs(seed, SEARCH_PAIRS + jury, load)
    rng = random.Random(seed)
    return Search(
        Mover(task.maker, task.timer, rng, frozenset(task.shipped)),
        task.signals,
        scorer,
        pairs[:SEARCH_PAIRS],
        [sample for pair in pairs[SEARCH_PAIRS:] for sample in pair],
        reference,
        rng,
        task.groups,
        knots=task.knots if knot_cost > 0.0 else None,
        knot_cost=knot_cost,
        warmth=warmth,
        fixed=fixed,
        told=told,
    )
