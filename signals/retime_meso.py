"""The mesoscopic model as the retimer's scorer."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from networks.graph import Ints, Programme, ProgrammePhase
from signals.meso import MesoModel, Timing, build_meso
from signals.meso_demand import Demand
from signals.meso_timing import join_timings, timing_of_signal
from signals.retime_plans import PlanMaker, StageTiming
from signals.retime_score import Objective, Outcome, Sample, Timings, Trial, price

_KEPT_MODELS = 24
_NOTHING = np.zeros(0)


class MesoScorer:
    """Scores timings on the model; one model a sample, as the demand of each is a draw of its own."""

    def __init__(
        self,
        maker: PlanMaker,
        demand: Demand,
        begin_s: float,
        end_s: float,
        *,
        objective: Objective = "person-delay",
        workers: int = 2,
    ) -> None:
        self._maker, self._demand, self._begin_s, self._end_s = maker, demand, begin_s, end_s
        self._objective: Objective = objective
        self._pool = ThreadPoolExecutor(workers) if workers > 1 else None
        self._models: dict[Sample, MesoModel] = {}
        self._shipped = [timing_of_signal(s, [(-np.inf, s.programme)]) for s in maker.network.signals]
        self._parts: dict[tuple[int, StageTiming], Timing] = {}

    def measure(self, trials: Sequence[Trial]) -> list[Outcome]:
        """Outcomes in the order of the trials."""
        jobs = [(self._model(t.sample), self._timing(t.timings), t.sample.seed) for t in trials]
        if self._pool is None or len(jobs) <= 1:
            return [self._run(*job) for job in jobs]
        return list(self._pool.map(lambda job: self._run(*job), jobs))

    def _run(self, model: MesoModel, timing: Timing, seed: int) -> Outcome:
        result = model.run(timing, seed=seed)
        stops = result.stops / max(1, result.vehicles)
        mean_cost, edge_cost = price(
            self._objective,
            self._maker.network,
            result.edge_delay_s,
            result.mean_delay_s,
            stops,
            self._end_s - self._begin_s,
        )
        return Outcome(result.vehicles, result.mean_delay_s, mean_cost, edge_cost, stops, result.jammed, _NOTHING)

    def _model(self, sample: Sample) -> MesoModel:
        if sample not in self._models:
            if len(self._models) >= _KEPT_MODELS:
                self._models.pop(next(iter(self._models)))
            demand = self._demand.select(draw_rows(len(self._demand), sample))
            self._models[sample] = build_meso(self._maker.network, demand, begin_s=self._begin_s, end_s=self._end_s)
        return self._models[sample]

    def _timing(self, timings: Timings) -> Timing:
        parts = list(self._shipped)
        for signal, timing in timings.items():
            parts[signal] = self._part(signal, timing)
        return join_timings(parts)

    def _part(self, signal: int, timing: StageTiming) -> Timing:
        key = (signal, timing)
        if key not in self._parts:
            if len(self._parts) > 50_000:
                self._parts.clear()
            steps = self._maker.steps(signal, timing)
            phases = tuple(ProgrammePhase(s.state, s.duration_s, s.duration_s, s.duration_s) for s in steps)
            programme = Programme("retimed", "static", float(timing.offset_s), phases)
            self._parts[key] = timing_of_signal(self._maker.network.signals[signal], [(-np.inf, programme)])
        return self._parts[key]


def draw_rows(count: int, sample: Sample) -> Ints:
    """Vehicles of a demand that a sample drives: left out or doubled at random to meet its factor, as SUMO does."""
    rng = np.random.default_rng(sample.seed)
    copies = np.floor(sample.demand + rng.random(count)).astype(np.int32)
    return np.repeat(np.arange(count, dtype=np.int32), copies)
