"""`retime_scenario`: signal plans for a SUMO scenario, searched on the mesoscopic model and measured in SUMO.

The time given is spent in four parts: good timings by formula, the search on the model, the search in SUMO from the
best of what was found, and the choice among the finalists on seeds that no search has used. The shipped programmes
are among the finalists, so the answer is never worse than they are, as far as was measured. An interruption ends the
search and goes on to the choice; a second one leaves.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from networks.errors import InputError
from networks.graph import Network
from networks.readers.formats import holds_programmes
from networks.readers.sumo import read_sumo
from scenarios.retime_check import PROGRAMME, Bench, Street, active_programmes
from scenarios.routes import read_demand
from scenarios.simulation import run_in_process
from signals.formats.sumo import book_from_sumo
from signals.retime import Task, new_search, prepare, sample_pairs, start_timings
from signals.retime_meso import MesoScorer
from signals.retime_plans import StageTiming
from signals.retime_pool import StageSource
from signals.retime_score import Objective, Outcome, Sample, Scorer, Trial
from signals.retime_search import Search

CHECK_DEMANDS = (1.0, 1.15, 0.85)
MODEL_UNTIL = 0.38  # share of the time at which the search on the model ends
CHOICE_FRAC, MOST_CHOICE_FRAC = 0.12, 0.25  # of the time, kept for the choice: at least, and at most if SUMO is slow
_FEWEST_ROUNDS = 3
FEWEST_FINALISTS, MOST_FINALISTS = 3, 4  # beside the shipped programmes
MODEL_STARTS = 2
MODEL_JURY, STREET_JURY = 3, 1  # pairs of samples
STREET_WARMTH = 0.001  # what comes from the model is good already: little is put up with
MOST_CHECKS = 5  # seeds a finalist and demand factor


@dataclass(frozen=True, slots=True)
class Order:
    """What to retime and how long to take for it."""

    network: Path
    routes: tuple[Path, ...]
    begin_s: float
    end_s: float
    additional: tuple[Path, ...] = ()
    seconds: float = 180.0
    seed: int = 1
    stages: StageSource = "built"
    objective: Objective = "person-delay"
    corridor: tuple[str, ...] = ()  # edges of the time-space picture, in order; empty: the busiest way
    workers: int = 2
    rounds: int | None = None  # of each search: bounds the work instead of the time, for equal answers


@dataclass(frozen=True, slots=True)
class Measured:
    """Mean delays of one set of timings in SUMO, on seeds that no search used."""

    name: str
    delay_s: dict[float, tuple[float, ...]]  # demand factor -> one value a seed
    jammed: int  # runs that ended in gridlock

    def mean_s(self, demand: float) -> float:
        return float(np.mean(self.delay_s[demand])) if self.delay_s.get(demand) else float("nan")


@dataclass(frozen=True)
class Retimed:
    """The answer: timings by signal (one left out keeps its programme) and what they were measured to be worth."""

    network: Network
    task: Task
    routes: tuple[tuple[int, ...], ...]  # dense edges of each vehicle
    timings: dict[int, StageTiming]
    shipped: Measured
    chosen: Measured
    check_seeds: tuple[int, ...]
    wall_s: float
    rounds_model: int
    rounds_street: int
    interrupted: bool


@dataclass(slots=True)
class Progress:
    """What is going on, for whoever shows it."""

    part: str = "reading"
    share: float = 0.0  # of the time
    delay_s: float = float("nan")  # of the incumbent, on its present samples
    shipped_s: float = float("nan")
    trials: int = 0


Told = Callable[[Progress], None]


@dataclass(slots=True)
class _Hours:
    """The clock of one retiming."""

    clock: Callable[[], float]
    seconds: float
    begun_s: float = field(init=False)

    def __post_init__(self) -> None:
        self.begun_s = self.clock()

    def used_s(self) -> float:
        return self.clock() - self.begun_s

    def left_until(self, share: float) -> float:
        return self.seconds * share - self.used_s()


def retime_scenario(
    order: Order, told: Told = lambda progress: None, clock: Callable[[], float] = time.monotonic
) -> Retimed:
    """Retime the signals of a scenario.

    Raises InputError (NetworkError, CityError) naming the file that cannot be used, ProcessError when SUMO dies.
    """
    hours = _Hours(clock, order.seconds)
    progress = Progress()
    told(progress)
    network = read_sumo(order.network, [path for path in order.additional if holds_programmes(path)])
    unknown = [edge for edge in order.corridor if edge not in network.edge_index]
    if unknown:
        raise InputError(f"--corridor: {order.network} has no edge {unknown[0]!r}")
    demand = read_demand(network, order.routes, order.additional)
    due = np.flatnonzero((demand.depart_s >= order.begin_s) & (demand.depart_s < order.end_s))
    if not len(due):
        names = ", ".join(map(str, order.routes))
        raise InputError(
            f"{names}: no vehicle departs in [{order.begin_s:g}, {order.end_s:g}) with a route that connects"
        )
    routes = tuple(tuple(demand.route[int(n)].tolist()) for n in due)
    task = prepare(network, routes, order.end_s - order.begin_s, order.stages)
    if not task.shipped:
        raise InputError(f"{order.network}: no signal has a programme of two or more stages to retime")
    model = MesoScorer(
        task.maker, demand, order.begin_s, order.end_s, objective=order.objective, workers=order.workers
    )
    street = _street(order, network.edges.ids)
    with Bench(street, task.maker, objective=order.objective, workers=order.workers) as bench:
        return _Retiming(order, network, task, routes, model, bench, hours, told, progress).run()


def _street(order: Order, edges: tuple[str, ...]) -> Street:
    return Street(order.network, order.routes, order.additional, order.begin_s, order.end_s, edges)


def inactive_signals(order: Order, plan: Path) -> tuple[str, ...]:
    """Signals of a written plan file at which SUMO does not run our programme at the begin."""
    meant = {named.signal_id for named in book_from_sumo(plan).programmes}
    active = run_in_process(active_programmes, _street(order, ()), plan)
    return tuple(sorted(name for name in meant if active.get(name) != PROGRAMME))


@dataclass(slots=True)
class _Retiming:
    """One run of `retime_scenario`, part by part."""

    order: Order
    network: Network
    task: Task
    routes: tuple[tuple[int, ...], ...]
    model: Scorer
    bench: Bench
    hours: _Hours
    told: Told
    progress: Progress
    interrupted: bool = False
    run_s: float = 0.0  # of wall time that a run in SUMO takes a worker

    def run(self) -> Retimed:
        rounds_model = rounds_street = 0
        finalists: list[tuple[str, dict[int, StageTiming]]] = []
        try:
            reference = self._shipped()
            found, rounds_model = self._search_model(reference)
            finalists += found
            if not self.interrupted:
                finalists, rounds_street = self._search_street(reference, [timings for _, timings in found])
        except KeyboardInterrupt:
            self.interrupted = True
        return self._choose(finalists, rounds_model, rounds_street)

    def _say(self, part: str, search: Search | None = None) -> None:
        self.progress.part = part
        self.progress.share = min(1.0, self.hours.used_s() / max(self.order.seconds, 1e-9))
        if search is not None:
            self.progress.trials = search.trials
            self.progress.delay_s = float(np.mean([o.mean_delay_s for o in search.best_outcomes]))
        self.told(self.progress)

    def _shipped(self) -> dict[float, float]:
        """The cost of the shipped programmes by demand factor, by the model: in SUMO a jam would take long."""
        self._say("scoring the shipped programmes")
        pair = sample_pairs(self.order.seed, 1)[0]
        outcomes = self.model.measure([Trial({}, sample) for sample in pair])
        self.progress.shipped_s = float(np.mean([o.mean_delay_s for o in outcomes]))
        return {s.demand: max(o.mean_cost, 1e-6) for s, o in zip(pair, outcomes, strict=True)}

    def _search_model(self, reference: dict[float, float]) -> tuple[list[tuple[str, dict[int, StageTiming]]], int]:
        """The best timings on the model from each of several starts, the best first, then the best start itself."""
        self._say("starts by formula")
        starts = start_timings(self.task)
        found: list[Search] = []
        ranked: list[tuple[float, int]] = []
        begun_s = self.hours.used_s()
        span_s = max(1e-3, self.hours.left_until(MODEL_UNTIL)) / MODEL_STARTS
        for turn in range(MODEL_STARTS):
            search = new_search(
                self.task,
                self.model,
                reference,
                seed=self.order.seed + turn,
                jury=MODEL_JURY,
                told=lambda s: self._say("searching on the model", s),
            )
            ranked = ranked or search.rank(starts)
            found.append(search)
            if not self._improve(
                search, starts[ranked[min(turn, len(ranked) - 1)][1]], begun_s + turn * span_s, span_s
            ):
                break
        found.sort(key=lambda s: s.best_cost)
        timings = [s.best for s in found if s.best] + [starts[n] for _, n in ranked[:1]]
        return [("model", t) for t in timings], sum(s.rounds for s in found)

    def _search_street(
        self, reference: dict[float, float], starts: Sequence[dict[int, StageTiming]]
    ) -> tuple[list[tuple[str, dict[int, StageTiming]]], int]:
        """The search goes on in SUMO, from the start that SUMO likes best: what its jury and its last pair liked."""
        search = new_search(
            self.task,
            self.bench,
            reference,
            seed=self.order.seed + 100,
            jury=STREET_JURY,
            warmth=STREET_WARMTH,
            told=lambda s: self._say("searching in SUMO", s),
        )
        self._say("ranking in SUMO")
        self.bench.wait_ready()
        ranked = self._rank(search, starts)
        choice_s = self.run_s * len(CHECK_DEMANDS) * (1 + MOST_FINALISTS) / self.order.workers
        choice_frac = min(max(CHOICE_FRAC, 1.1 * choice_s / self.order.seconds), MOST_CHOICE_FRAC)
        span_s = self.hours.left_until(1.0 - choice_frac)
        finalists = [("model", timings) for timings in ranked]
        # the jury and a few rounds, or SUMO is too slow to search in and what time is left goes to the choice
        if self.order.rounds is None and span_s < _FEWEST_ROUNDS * 4 * self.run_s / self.order.workers:
            return finalists, 0
        self._improve(search, ranked[0], self.hours.used_s(), max(1e-3, span_s))
        return [("SUMO", t) for t in (search.best, search.now) if t] + finalists, search.rounds

    def _rank(self, search: Search, starts: Sequence[dict[int, StageTiming]]) -> list[dict[int, StageTiming]]:
        """Starts by their cost in SUMO, best first; one that jams while another does not is given up early."""
        pair = search.pairs[0]
        costs: list[tuple[float, int]] = []
        rivals: list[Outcome | None] = [None] * len(pair)
        for n, timings in enumerate(starts):
            if costs and 2.0 * self.run_s > self.hours.left_until(1.0 - MOST_CHOICE_FRAC):
                break
            before_s = self.hours.used_s()
            outcomes = self.bench.measure([Trial(timings, s, r) for s, r in zip(pair, rivals, strict=True)])
            if not costs:
                self.run_s = (self.hours.used_s() - before_s) * self.order.workers / len(pair)
            costs.append((search.cost_of(outcomes, pair), n))
            if costs[-1] == min(costs):
                rivals = [*outcomes]
        order = [n for _, n in sorted(costs)]
        return [starts[n] for n in [*order, *range(len(costs), len(starts))]]

    def _improve(self, search: Search, start: dict[int, StageTiming], begun_s: float, span_s: float) -> bool:
        """Run a search for its share of the time or rounds; False when it was interrupted."""
        rounds = self.order.rounds

        last_s, longest_s = self.hours.used_s(), 0.0

        def done_frac() -> float:
            nonlocal last_s, longest_s
            if rounds is not None:
                return search.rounds / rounds
            now_s = self.hours.used_s()
            longest_s, last_s = max(longest_s, now_s - last_s), now_s
            return (now_s + 0.7 * longest_s - begun_s) / span_s  # a round that would end late is not begun

        try:
            search.begin(start)
            search.improve(done_frac)
        except KeyboardInterrupt:
            self.interrupted = True
        return not self.interrupted

    def _choose(
        self, finalists: Sequence[tuple[str, dict[int, StageTiming]]], rounds_model: int, rounds_street: int
    ) -> Retimed:
        """Measure the finalists and the shipped programmes on fresh seeds, as many as time allows."""
        candidates: list[tuple[str, dict[int, StageTiming]]] = [("shipped", {})]
        for name, timings in finalists:
            if timings not in [known for _, known in candidates]:
                candidates.append((name, timings))
        affordable = int(self.hours.left_until(1.0) * self.order.workers / max(2.0 * self.run_s, 1e-9))
        candidates = candidates[: max(1 + FEWEST_FINALISTS, min(1 + MOST_FINALISTS, affordable))]
        first = 10_000 * (self.order.seed + 1) + 5_000
        measured = [{d: list[Outcome]() for d in CHECK_DEMANDS} for _ in candidates]
        alive = list(range(len(candidates)))
        seeds: list[int] = []
        for seed in range(first, first + MOST_CHECKS):
            for demand in CHECK_DEMANDS:
                self._say("choosing among the finalists")
                need_s = self.run_s * len(alive) / self.order.workers
                if seed > first and need_s > self.hours.left_until(1.0):
                    break
                if demand == CHECK_DEMANDS[-1] and need_s > self.hours.left_until(1.0):
                    break
                seeds = [*seeds, seed] if seed not in seeds else seeds
                before_s = self.hours.used_s()
                outcomes = self._compare([candidates[n][1] for n in alive], Sample(seed, demand))
                self.run_s = (self.hours.used_s() - before_s) * self.order.workers / len(alive)
                for n, outcome in zip(alive, outcomes, strict=True):
                    measured[n][demand].append(outcome)
            alive = self._still_in(alive, measured)
        told = [
            Measured(
                name,
                {d: tuple(o.mean_delay_s for o in measured[n][d]) for d in CHECK_DEMANDS},
                sum(o.jammed for d in CHECK_DEMANDS for o in measured[n][d]),
            )
            for n, (name, _) in enumerate(candidates)
        ]
        chosen = min(alive, key=lambda n: (_score(measured[n], measured[0]), n))
        return Retimed(
            self.network,
            self.task,
            self.routes,
            candidates[chosen][1],
            told[0],
            told[chosen],
            tuple(seeds),
            self.hours.used_s(),
            rounds_model,
            rounds_street,
            self.interrupted,
        )

    def _compare(self, candidates: Sequence[dict[int, StageTiming]], sample: Sample) -> list[Outcome]:
        """Outcomes of the shipped programmes, the favourite and the others, which are given up far behind it."""
        first = self.bench.measure([Trial(timings, sample) for timings in candidates[:2]])
        return first + self.bench.measure([Trial(timings, sample, first[-1]) for timings in candidates[2:]])

    def _still_in(self, alive: list[int], delays: Sequence[dict[float, list[Outcome]]]) -> list[int]:
        """The better half of the finalists, and always the shipped programmes, which the others are held against."""
        others = sorted((n for n in alive if n), key=lambda n: (_score(delays[n], delays[0]), n))
        return [0, *others[: max(2, (len(others) + 1) // 2)]]


def _score(mine: dict[float, list[Outcome]], shipped: dict[float, list[Outcome]]) -> float:
    """Mean over the demand factors of the cost relative to the shipped programmes; gridlock counts double."""
    parts = []
    for demand, outcomes in mine.items():
        if not outcomes:
            continue
        base = float(np.mean([o.mean_cost for o in shipped[demand]]))
        own = float(np.mean([o.mean_cost * (2.0 if o.jammed else 1.0) for o in outcomes]))
        parts.append(own / max(base, 1e-6))
    return float(np.mean(parts))
