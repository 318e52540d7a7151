"""The search: many small changes measured at once, each judged where it is felt.

A round draws a change for several signals that lie far enough apart, measures them together, and keeps those that
lowered the cost in their own zone (edges to the signal and to the next ones behind it). So one measurement says
something about many junctions. What is kept is measured once more as a whole. Small losses are put up with at first
(simulated annealing, Kirkpatrick, Gelatt and Vecchi 1983), and samples are exchanged now and then, so that nothing is
tuned to one of them; a jury of other samples says which incumbent was best.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from signals.retime_flows import SignalMap
from signals.retime_knots import KnotGauge
from signals.retime_moves import Mover
from signals.retime_plans import StageTiming
from signals.retime_score import Outcome, Sample, Scorer, Trial

_FIRST_WEIGHTS = {
    "shift": 3.0,
    "split": 4.0,
    "order": 0.7,
    "drop": 0.8,
    "insert": 0.6,
    "exchange": 0.6,
    "propose": 1.0,
    "stretch": 1.0,
    "group cycle": 1.0,
    "group shift": 0.7,
    "untie": 1.0,
}
ROUNDS_A_PAIR = 25
FIRST_WARMTH = 0.004  # mean loss, of the reference cost, that is put up with at the begin
COLD_FRAC = 0.8  # share of the search after which no loss is
RETURN_FRAC = 0.7  # share after which it goes on from the best so far
UNTIE_DRAWS = 20  # joint changes of such a pair, of which the safest is tried


@dataclass(slots=True)
class Search:
    """State of one search; `best` may be read at any time, as after an interruption."""

    mover: Mover
    signals: SignalMap
    scorer: Scorer
    pairs: Sequence[tuple[Sample, ...]]  # sets of samples to search on, in turn
    jury: Sequence[Sample]  # samples that decide which incumbent is best
    reference: Mapping[float, float]  # demand factor -> cost that counts as 1
    rng: random.Random
    groups: tuple[tuple[int, ...], ...]
    knots: KnotGauge | None = None
    knot_cost: float = 0.0  # of the reference cost, for a pair of close signals that tempts fate all the time
    warmth: float = FIRST_WARMTH
    fixed: frozenset[int] = frozenset()  # signals that keep the timing of the start
    told: Callable[[Search], None] = lambda search: None
    best: dict[int, StageTiming] = field(default_factory=dict)
    best_cost: float = math.inf  # on the jury
    best_outcomes: tuple[Outcome, ...] = ()
    now: dict[int, StageTiming] = field(default_factory=dict)
    outcomes: tuple[Outcome, ...] = ()
    trials: int = 0
    rounds: int = 0
    _heat: float = 0.0
    _wins: dict[str, float] = field(default_factory=lambda: dict(_FIRST_WEIGHTS))
    _tries: dict[str, float] = field(default_factory=lambda: dict.fromkeys(_FIRST_WEIGHTS, 3.0))

    def rank(self, starts: Sequence[dict[int, StageTiming]]) -> list[tuple[float, int]]:
        """Costs of several starts on the first samples, best first."""
        outcomes = self._measure([Trial(start, sample) for start in starts for sample in self.pairs[0]])
        size = len(self.pairs[0])
        return sorted(
            (self.cost_of(outcomes[n * size : (n + 1) * size], self.pairs[0]) + self._knot_cost(start), n)
            for n, start in enumerate(starts)
        )

    def cost_of(self, outcomes: Sequence[Outcome], samples: Sequence[Sample]) -> float:
        """Mean over the samples of the cost relative to the reference."""
        return float(
            np.mean([o.mean_cost / self.reference[s.demand] for o, s in zip(outcomes, samples, strict=True)])
        )

    def begin(self, start: dict[int, StageTiming]) -> None:
        """Take a start as the incumbent."""
        self.now = dict(start)
        self._judge()

    def improve(self, done_frac: Callable[[], float]) -> None:
        """Rounds until `done_frac`, asked before each, comes to 1. It is also what cools the search down."""
        while (done := done_frac()) < 1.0:
            if self.rounds % ROUNDS_A_PAIR == 0:
                if self.rounds:
                    self._judge()
                if done > RETURN_FRAC and self.now != self.best:
                    self.now = dict(self.best)
                self.outcomes = tuple(self._measure([Trial(self.now, sample) for sample in self._pair()]))
            self._heat = self.warmth * max(0.0, 1.0 - done / COLD_FRAC) ** 2
            self.rounds += 1
            self._round()
            self.told(self)
        self._judge()

    def _pair(self) -> tuple[Sample, ...]:
        return self.pairs[(max(0, self.rounds - 1) // ROUNDS_A_PAIR) % len(self.pairs)]

    def _judge(self) -> None:
        """Put the incumbent to the jury."""
        if self.now == self.best:
            return
        outcomes = tuple(self._measure([Trial(self.now, sample) for sample in self.jury]))
        cost = self.cost_of(outcomes, self.jury) + self._knot_cost(self.now)
        if cost < self.best_cost:
            self.best, self.best_cost, self.best_outcomes = dict(self.now), cost, outcomes

    def _measure(self, trials: Sequence[Trial]) -> list[Outcome]:
        self.trials += len(trials)
        return self.scorer.measure(trials)

    def _try(self, timings: dict[int, StageTiming]) -> tuple[Outcome, ...]:
        pairs = zip(self._pair(), self.outcomes, strict=True)
        return tuple(self._measure([Trial(timings, sample, rival) for sample, rival in pairs]))

    def _take(self, timings: dict[int, StageTiming], outcomes: tuple[Outcome, ...]) -> bool:
        """Make timings the incumbent unless they lose by more than the present heat allows."""
        loss = self.cost_of(outcomes, self._pair()) - self.cost_of(self.outcomes, self._pair())
        loss += self._knot_cost(timings) - self._knot_cost(self.now)
        if not loss < self._allowed():
            return False
        self.now, self.outcomes = timings, outcomes
        return loss < 0

    def _allowed(self) -> float:
        return -self._heat * math.log(1.0 - self.rng.random())

    def _round(self) -> None:
        kind = self._draw_kind()
        if kind.startswith("group"):
            self._group_round(kind)
            return
        if kind == "untie":
            self._untie_round()
            return
        moves = self._batch()
        if not moves:
            return
        tried = {**self.now, **{n: timing for n, (timing, _) in moves.items()}}
        outcomes = self._try(tried)
        gains = {n: self._gain(n, tried, outcomes) for n in moves}
        kept = {n for n in moves if gains[n] > -self._allowed()}
        if kept and len(kept) < len(moves):
            tried = {**self.now, **{n: moves[n][0] for n in kept}}
            outcomes = self._try(tried)
        won = bool(kept) and self._take(tried, outcomes)
        for n, (_, name) in moves.items():
            self._learn(name, won and gains[n] > 0)

    def _group_round(self, kind: str) -> None:
        members = [n for n in self.rng.choice(self.groups) if n in self.now and n not in self.fixed]
        if len(members) < 2:
            return
        tried = dict(self.now)
        if kind == "group shift":
            seed = self.rng.choice(members)
            members = [seed, *(n for n in members if n in self.signals.neighbours(seed) and self.rng.random() < 0.6)]
            step_s = self.rng.choice((-1, 1)) * self.rng.choice((2, 3, 5, 8, 12, 18))
            for n in members:
                timing = self.now[n]
                cycle_s = self.mover.maker.cycle_s(n, timing)
                tried[n] = StageTiming(timing.states, timing.greens_s, (timing.offset_s + step_s) % cycle_s)
        else:
            cycles = [self.mover.maker.cycle_s(n, self.now[n]) for n in members]
            now_s = max(set(cycles), key=cycles.count)
            step_s = self.rng.choice((-1, 1)) * self.rng.choice((2, 4, 6, 8, 10, 15, 20))
            for n, cycle_s in zip(members, cycles, strict=True):
                wanted_s = round(cycle_s * (now_s + step_s) / now_s)
                moved = self.mover.to_cycle(n, self.now[n], wanted_s)
                if moved is None:
                    return
                tried[n] = moved
        self._learn(kind, self._take(tried, self._try(tried)))

    def _untie_round(self) -> None:
        """Change both signals of a knot at once: of many draws the one under which they may lock least."""
        assert self.knots is not None
        signals = self.rng.choice(self.knots.knots).signals
        if self.fixed & set(signals):
            return
        best, best_risk = self.now, self.knots.risk_frac(self.now, signals[0])
        for _ in range(UNTIE_DRAWS):
            tried = dict(self.now)
            for n in self.rng.choice((signals, signals, signals[:1], signals[1:])):
                tried[n] = self.mover.draw(self._draw_kind(single=True), n, tried[n]) or tried[n]
            risk = self.knots.risk_frac(tried, signals[0])
            if risk < best_risk:
                best, best_risk = tried, risk
        if best is not self.now:
            self._learn("untie", self._take(best, self._try(best)))

    def _batch(self) -> dict[int, tuple[StageTiming, str]]:
        """Moves of signals whose zones do not meet, the costly ones drawn more often."""
        weight = {n: self._zone_cost(self.outcomes, n) for n in self.now if n not in self.fixed}
        floor = max(weight.values(), default=1.0) * 0.05 + 1e-9
        left = sorted(weight, key=lambda n: -math.log(1.0 - self.rng.random()) / (weight[n] + floor))
        taken: set[int] = set()
        moves: dict[int, tuple[StageTiming, str]] = {}
        most = max(1, len(self.now) // 2)
        for n in left:
            zone = set(self.signals.zones[n].tolist())
            if zone & taken or len(moves) >= most:
                continue
            for _ in range(8):
                kind = self._draw_kind(single=True)
                moved = self.mover.draw(kind, n, self.now[n])
                if moved is not None:
                    moves[n] = moved, kind
                    taken |= zone
                    break
        return moves

    def _zone_cost(self, outcomes: Sequence[Outcome], signal: int) -> float:
        zone = self.signals.zones[signal]
        return float(sum(o.edge_cost[zone].sum() for o in outcomes))

    def _gain(self, signal: int, timings: dict[int, StageTiming], outcomes: Sequence[Outcome]) -> float:
        """Fall of the zone's cost, relative to the reference, summed over the samples."""
        zone = self.signals.zones[signal]
        gain = len(outcomes) * (self._knot_cost(self.now, signal) - self._knot_cost(timings, signal))
        for sample, before, after in zip(self._pair(), self.outcomes, outcomes, strict=True):
            if not math.isfinite(after.mean_cost):
                return -math.inf
            scale = self.reference[sample.demand] * max(1, before.vehicles)
            gain += float(before.edge_cost[zone].sum() - after.edge_cost[zone].sum()) / scale
        return gain

    def _knot_cost(self, timings: Mapping[int, StageTiming], signal: int | None = None) -> float:
        return 0.0 if self.knots is None else self.knot_cost * self.knots.risk_frac(timings, signal)

    def _draw_kind(self, *, single: bool = False) -> str:
        alone = single or all(len(group) < 2 for group in self.groups)
        kinds = [k for k in self._wins if not (alone and k.startswith("group"))]
        tied = self.knots is not None and bool(self.knots.knots)
        kinds = [k for k in kinds if k != "untie" or (tied and not single)]
        return self.rng.choices(kinds, [_FIRST_WEIGHTS[k] * self._wins[k] / self._tries[k] for k in kinds])[0]

    def _learn(self, kind: str, won: bool) -> None:
        self._tries[kind] += 1.0
        self._wins[kind] += 1.0 if won else 0.1
