"""`retime_scenario`: signal plans for a SUMO scenario, searched on the mesoscopic model and measured in SUMO.

The time given is spent in four parts: good timings by formula, the search on the model, the search in SUMO from the
best of what was found, and the choice among the finalists on seeds that no search has used. The shipped programmes
are among the finalists, so the answer is never worse than they are, as far as was measured. An interruption ends the
search and goes on to the choice; a second one leaves.
"""

from __future__ import annotations

import time
import xml.etree.ElementTree as ET
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from networks.errors import InputError, NetworkError
from networks.graph import Floats, Network
from networks.readers.formats import holds_programmes, open_maybe_gzip
from networks.readers.sumo import read_sumo
from scenarios.retime_check import Bench, Street, active_programmes
from scenarios.routes import read_demand
from scenarios.simulation import run_in_process
from signals.formats.sumo import book_from_sumo
from signals.meso_demand import Demand
from signals.retime import MORE_DEMAND, Task, new_search, prepare, sample_pairs, start_timings
from signals.retime_corridor import Corridor, band_starts, corridor_both_ways
from signals.retime_meso import MesoScorer
from signals.retime_picture import busiest_corridor
from signals.retime_plans import StageTiming
from signals.retime_pool import StageSource
from signals.retime_score import Objective, Outcome, Sample, Scorer, Trial
from signals.retime_search import Search

CHECK_DEMANDS = (1.0, MORE_DEMAND, 0.85)
MODEL_FRAC = 0.35  # of the time left when everything is prepared, for the search on the model
CHOICE_FRAC, MOST_CHOICE_FRAC = 0.12, 0.25  # of the time, kept for the choice: at least, and at most if SUMO is slow
FEWEST_ROUNDS = 6  # in SUMO: fewer are worth less than the same time on the model
RUNS_A_ROUND = 3  # of a pair of samples, some of them twice
FEWEST_FINALISTS, MOST_FINALISTS = 1, 4  # beside the shipped programmes
LOADS = (1.0, 1.05, 1.1, 1.15, 1.2, 1.25, 1.3)  # of the model, as factors on the demand
MODEL_STARTS = 2
KNOT_COST = 0.3  # of the shipped programmes' cost, for a pair of signals that tempts a lock all the time
KNOT_COSTS = (0.0, KNOT_COST, KNOT_COST)  # of each search where signals may lock: what it pays (`retime_knots`)
MODEL_JURY, STREET_JURY = 3, 1  # pairs of samples
STREET_WARMTH = 0.001  # what comes from the model is good already: little is put up with
MOST_CHECKS = 5  # seeds a finalist and demand factor
HEATS = 2  # runs in SUMO at more demand that finalists have to come through where signals may lock
TIED_RUNS = 24.0  # in SUMO, where it only chooses and signals may lock: that shows in SUMO alone, not in every run


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


def measured_of(name: str, outcomes: dict[float, list[Outcome]]) -> Measured:
    """What runs by demand factor came to."""
    return Measured(
        name,
        {demand: tuple(o.mean_delay_s for o in runs) for demand, runs in outcomes.items()},
        sum(o.jammed for runs in outcomes.values() for o in runs),
    )


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
class Hours:
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
    hours = Hours(clock, order.seconds)
    told(Progress())
    return retime_scene(order, read_scene(order), hours, told)


@dataclass(frozen=True, slots=True)
class Scene:
    """What the files of an order hold."""

    network: Network
    demand: Demand

    def due(self, begin_s: float, end_s: float) -> tuple[Floats, tuple[tuple[int, ...], ...]]:
        """Departures in [begin_s, end_s) and the dense edges of each of these vehicles."""
        depart_s = self.demand.depart_s
        rows = np.flatnonzero((depart_s >= begin_s) & (depart_s < end_s))
        return depart_s[rows], tuple(tuple(self.demand.route[int(n)].tolist()) for n in rows)


def read_scene(order: Order) -> Scene:
    """Raises InputError (NetworkError, CityError) naming the file that cannot be used."""
    network = read_sumo(order.network, [path for path in order.additional if holds_programmes(path)])
    unknown = [edge for edge in order.corridor if edge not in network.edge_index]
    if unknown:
        raise InputError(f"--corridor: {order.network} has no edge {unknown[0]!r}")
    return Scene(network, read_demand(network, order.routes, order.additional))


def retime_scene(order: Order, scene: Scene, hours: Hours, told: Told = lambda progress: None) -> Retimed:
    """`retime_scenario` of what was read already, on a clock that may be running. Raises as that does."""
    network, demand = scene.network, scene.demand
    _, routes = scene.due(order.begin_s, order.end_s)
    if not routes:
        names = ", ".join(map(str, order.routes))
        raise InputError(
            f"{names}: no vehicle departs in [{order.begin_s:g}, {order.end_s:g}) with a route that connects"
        )
    task = prepare(network, routes, order.end_s - order.begin_s, order.stages)
    if not task.shipped:
        raise InputError(f"{order.network}: no signal has a programme of two or more stages to retime")
    wave = None
    if order.objective == "bandwidth":
        edges = tuple(network.edge_index[e] for e in order.corridor) or busiest_corridor(
            network, task.signals, routes
        )
        wave = corridor_both_ways(network, edges, routes)
    model = MesoScorer(
        task.maker, demand, order.begin_s, order.end_s, objective=order.objective, workers=order.workers
    )
    with Bench(
        street_of(order, network.edges.ids), task.maker, objective=order.objective, workers=order.workers
    ) as bench:
        return _Retiming(order, network, task, routes, model, bench, hours, told, Progress(), wave).run()


def street_of(order: Order, edges: tuple[str, ...] = ()) -> Street:
    """The scenario in SUMO. `edges`: ids whose delay is told apart."""
    return Street(order.network, order.routes, order.additional, order.begin_s, order.end_s, edges)


def inactive_signals(order: Order, plan: Path) -> tuple[str, ...]:
    """Signals of a written plan file at which SUMO does not run our programme, the first of the day, at the begin."""
    meant = {named.signal_id: named.programme.id for named in book_from_sumo(plan).programmes}
    active = run_in_process(active_programmes, street_of(order), plan)
    return tuple(sorted(name for name, programme in meant.items() if active.get(name) != programme))


def sort_files(routes: Sequence[Path], additional: Sequence[Path]) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Demand files and additional files; what is an additional file (types, stops, programmes) by its root is one,
    wherever it was named. Raises NetworkError naming one that cannot be read."""
    moved = tuple(path for path in routes if _root(path) in ("additional", "add"))
    return tuple(path for path in routes if path not in moved), (*moved, *additional)


def _root(path: Path) -> str:
    try:
        with open_maybe_gzip(path) as stream:
            return next((str(element.tag) for _, element in ET.iterparse(stream, events=("start",))), "")
    except (ET.ParseError, EOFError, OSError, zlib.error) as defect:
        raise NetworkError(f"{path}: not readable as SUMO XML: {defect}") from defect


@dataclass(slots=True)
class _Retiming:
    """One run of `retime_scenario`, part by part."""

    order: Order
    network: Network
    task: Task
    routes: tuple[tuple[int, ...], ...]
    model: Scorer
    bench: Bench
    hours: Hours
    told: Told
    progress: Progress
    wave: Corridor | None = None  # what the widest bands are wanted along
    interrupted: bool = False
    run_s: float = 0.0  # of wall time that a run in SUMO takes a worker
    street_too: bool = True  # SUMO is fast enough to search in; else it only chooses
    load: float = 1.0  # factor on the demand at which the model delays vehicles as SUMO does
    modelled: dict[float, float] = field(default_factory=dict)  # cost of the shipped programmes by demand factor
    measured: dict[float, float] = field(default_factory=dict)  # the same in SUMO

    def run(self) -> Retimed:
        rounds_model = rounds_street = 0
        finalists: list[tuple[str, dict[int, StageTiming]]] = []
        try:
            starts = self._begin()
            found, rounds_model = self._search_model(starts)
            finalists += found
            if not self.interrupted:
                finalists, rounds_street = self._search_street([timings for _, timings in found])
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

    def _begin(self) -> list[dict[int, StageTiming]]:
        """Starts by formula; SUMO measures the shipped programmes meanwhile.

        Where it delays vehicles more than the model, which knows fewer ways to block a junction, the model is
        searched on so much more demand that both agree.
        """
        self._say("starts by formula")
        pair = sample_pairs(self.order.seed, 1)[0]
        with ThreadPoolExecutor(1) as aside:
            measuring = aside.submit(self._measure_shipped, pair)
            starts = start_timings(self.task) if self.wave is None else band_starts(self.task, self.wave)
            self._say("scoring the shipped programmes")
            street = measuring.result()
        nearest: tuple[float, list[Outcome]] | None = None
        for load in LOADS:
            drawn = sample_pairs(self.order.seed, 1, load)[0]
            modelled = self.model.measure([Trial({}, sample) for sample in drawn])
            apart = _log_ratio(modelled, street)
            if nearest is None or abs(apart) < nearest[0]:
                nearest = abs(apart), modelled
                self.load, self.modelled = load, _costs(drawn, modelled)
                self.progress.shipped_s = float(np.mean([o.mean_delay_s for o in modelled]))
            if apart >= 0.0:
                break
        self.measured = _costs(pair, street)
        street_s = self.hours.left_until(1.0) * (1.0 - CHOICE_FRAC - MODEL_FRAC)
        round_s = RUNS_A_ROUND * self.run_s / self.order.workers
        self.street_too = self.order.rounds is not None or street_s >= FEWEST_ROUNDS * round_s
        return starts

    def _fixed(self) -> frozenset[int]:
        """Signals that the searches leave alone: their bands are as wide as they get."""
        return self.wave.signals if self.wave is not None else frozenset()

    def _measure_shipped(self, pair: Sequence[Sample]) -> list[Outcome]:
        self.bench.wait_ready()
        before_s = self.hours.used_s()
        outcomes = self.bench.measure([Trial({}, sample) for sample in pair])
        self.run_s = (self.hours.used_s() - before_s) * min(1.0, self.order.workers / len(pair))
        return outcomes

    def _model_s(self) -> float:
        """Time for the search on the model, of what is left when everything is prepared."""
        left_s = self.hours.left_until(1.0)
        if self.street_too:
            return left_s * MODEL_FRAC
        runs = TIED_RUNS if self.task.knots.knots else 2.0 * (1 + MODEL_STARTS)  # of two demand factors
        choice_s = 1.1 * runs * self.run_s / self.order.workers
        return max(left_s * MODEL_FRAC, left_s - choice_s)

    def _search_model(
        self, starts: Sequence[dict[int, StageTiming]]
    ) -> tuple[list[tuple[str, dict[int, StageTiming]]], int]:
        """The best timings on the model from each of several starts, the best first, then the best start itself."""
        found: list[Search] = []
        ranked: list[tuple[float, int]] = []
        begun_s = self.hours.used_s()
        knot_costs = KNOT_COSTS if self.task.knots.knots else (0.0,) * MODEL_STARTS
        span_s = max(1e-3, self._model_s()) / len(knot_costs)
        for turn, knot_cost in enumerate(knot_costs):
            search = new_search(
                self.task,
                self.model,
                self.modelled,
                seed=self.order.seed + turn,
                jury=MODEL_JURY,
                load=self.load,
                knot_cost=knot_cost,
                fixed=self._fixed(),
                told=lambda s: self._say("searching on the model", s),
            )
            place = knot_costs[:turn].count(knot_cost)  # among searches of its kind
            if place == 0:
                ranked = search.rank(starts)
            start = starts[ranked[min(place, len(ranked) - 1)][1]]
            found.append(search)
            if not self._improve(search, start, begun_s + turn * span_s, span_s):
                break
        found.sort(key=lambda s: s.best_cost)
        timings = [s.best for s in found if s.best] + [starts[n] for _, n in ranked[:1]]
        return [("model", t) for t in timings], sum(s.rounds for s in found)

    def _search_street(
        self, starts: Sequence[dict[int, StageTiming]]
    ) -> tuple[list[tuple[str, dict[int, StageTiming]]], int]:
        """The search goes on in SUMO, from the start that SUMO likes best: what its jury and its last pair liked."""
        if not self.street_too:
            return [("model", timings) for timings in self._heats(starts)], 0
        search = new_search(
            self.task,
            self.bench,
            self.measured,
            seed=self.order.seed + 100,
            jury=STREET_JURY,
            warmth=STREET_WARMTH,
            fixed=self._fixed(),
            told=lambda s: self._say("searching in SUMO", s),
        )
        self.progress.shipped_s = float(np.mean(list(self.measured.values())))
        self._say("ranking in SUMO")
        ranked = self._rank(search, starts)
        choice_s = self.run_s * len(CHECK_DEMANDS) * (1 + MOST_FINALISTS) / self.order.workers
        choice_frac = min(max(CHOICE_FRAC, 1.1 * choice_s / self.order.seconds), MOST_CHOICE_FRAC)
        span_s = self.hours.left_until(1.0 - choice_frac)
        finalists = [("model", timings) for timings in ranked]
        self._improve(search, ranked[0], self.hours.used_s(), max(1e-3, span_s))
        return [("SUMO", t) for t in (search.best, search.now) if t] + finalists, search.rounds

    def _heats(self, starts: Sequence[dict[int, StageTiming]]) -> Sequence[dict[int, StageTiming]]:
        """Where signals may lock, the half that does best at more demand, where a lock is most likely to show.

        It does not show in every run: a plan that tempts one pays for that here as in the search.
        """
        if not self.task.knots.knots:
            return starts
        first = 10_000 * (self.order.seed + 1) + 4_000
        samples = [Sample(first + n, MORE_DEMAND) for n in range(HEATS)]
        self._say("ranking in SUMO")
        outcomes = self.bench.measure([Trial(timings, sample) for timings in starts for sample in samples])
        shipped = self.measured[MORE_DEMAND]
        costs = {n: _cost(outcomes[n * HEATS : (n + 1) * HEATS]) / shipped for n in range(len(starts))}
        ranked = by_price(costs, {n: self.task.knots.risk_frac(timings) for n, timings in enumerate(starts)})
        return [starts[n] for n in ranked[: (len(starts) + 1) // 2]]

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
                need_s = 1.1 * self.run_s * len(alive) / self.order.workers
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
            others = self._best_first(alive[1:], candidates, measured)
            alive = [0, *others[: max(2, (len(others) + 1) // 2)]]  # the shipped programmes, to be held against
        told = [measured_of(name, outcomes) for (name, _), outcomes in zip(candidates, measured, strict=True)]
        # whoever asks for a green wave gets one: the shipped programmes are there to be compared with
        least = np.inf if self.wave is not None else _score(measured[0], measured[0])
        fit = [n for n in alive[1:] if _score(measured[n], measured[0]) <= least]
        chosen = next(iter(self._best_first(fit, candidates, measured)), 0)
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

    def _best_first(
        self,
        rows: Sequence[int],
        candidates: Sequence[tuple[str, dict[int, StageTiming]]],
        measured: Sequence[dict[float, list[Outcome]]],
    ) -> list[int]:
        """Finalists by what they cost in SUMO, and by what a lock may cost that did not show."""
        costs = {n: _score(measured[n], measured[0]) for n in rows}
        return by_price(costs, {n: self.task.knots.risk_frac(candidates[n][1]) for n in rows})


def by_price(costs: Mapping[int, float], risk_frac: Mapping[int, float]) -> list[int]:
    """Plans by what they cost in SUMO, over the shipped programmes, and by what a lock may cost that did not show.

    `risk_frac`: share of the time in which a pair of signals tempts a lock (`retime_knots`). Equals keep their order.
    """
    return sorted(costs, key=lambda n: (costs[n] + KNOT_COST * risk_frac[n], n))


def _costs(samples: Sequence[Sample], outcomes: Sequence[Outcome]) -> dict[float, float]:
    """Mean cost by demand factor."""
    return {s.demand: max(o.mean_cost, 1e-6) for s, o in zip(samples, outcomes, strict=True)}


def _log_ratio(modelled: Sequence[Outcome], street: Sequence[Outcome]) -> float:
    """By how much the model's delays exceed SUMO's, as mean logarithm of their ratio."""
    ratios = [max(m.mean_delay_s, 1e-6) / max(s.mean_delay_s, 1e-6) for m, s in zip(modelled, street, strict=True)]
    return float(np.mean(np.log(ratios)))


def _score(mine: dict[float, list[Outcome]], shipped: dict[float, list[Outcome]]) -> float:
    """Mean over the demand factors of the cost relative to the shipped programmes."""
    parts = []
    for demand, outcomes in mine.items():
        if outcomes:
            parts.append(_cost(outcomes) / max(float(np.mean([o.mean_cost for o in shipped[demand]])), 1e-6))
    return float(np.mean(parts))


def _cost(outcomes: Sequence[Outcome]) -> float:
    """Mean of some runs; gridlock counts double."""
    return float(np.mean([o.mean_cost * (2.0 if o.jammed else 1.0) for o in outcomes]))
