"""The mesoscopic traffic model: many signal timings of a whole network, scored fast."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

import numpy as np
from numpy.typing import NDArray

from networks.graph import Floats, Network
from networks.state import check_shapes
from signals.meso_build import build_streets, build_traffic, new_state
from signals.meso_demand import Demand, car_demand
from signals.meso_kernels import (
    R_ARRIVED,
    R_DELAY,
    R_INSERTION,
    R_NEVER,
    R_RUNNING,
    R_STOPS,
    R_STUCK,
    R_VEHICLE_S,
    Plans,
    State,
    Streets,
    Traffic,
    run_streets,
)
from signals.meso_timing import Timing, timing_of, timing_of_day

__all__ = [
    "Demand",
    "MesoModel",
    "MesoResult",
    "MesoStart",
    "Timing",
    "build_meso",
    "car_demand",
    "timing_of",
    "timing_of_day",
]


JAM_FRAC = 0.15
CHOICE_SAMPLE_S = 20  # between looks at the streets, for their queues and by drivers who choose their way


@dataclass(frozen=True, slots=True)
class MesoResult:
    """One run. Delays are time loss plus insertion delay, of vehicles still driving or waiting both up to the end.

    Edge figures belong to the edge at whose end the vehicle waits; insertion delay counts with the first edge. A run
    that goes on from a start counts from there, over the vehicles that had not arrived by then.
    """

    vehicles: int  # scheduled in [begin, end)
    arrived: int
    running: int
    never_inserted: int
    mean_delay_s: float  # weighted by Demand.weight, over every vehicle of the demand
    mean_insertion_delay_s: float
    stops: int  # vehicles that came to rest at a stop line or behind a queue, each time
    vehicle_s: float  # time in the network, summed
    stuck: int  # vehicles overdue by more than five minutes where they stand at the end
    jammed: bool  # more than 15 % of the demand still in or waiting for the network at the end
    edge_delay_s: Floats  # (E,) total, insertion included
    edge_insertion_s: Floats  # (E,) of that, waiting to enter
    edge_left_veh: Floats  # (E,) throughput
    edge_max_queue_veh: Floats  # (E,)


@dataclass(frozen=True)
class MesoStart:
    """Streets full of traffic at a moment, for a run to go on from. Made by `MesoModel.stop` and `start_of`."""

    at_s: float
    vehicle: NDArray[np.void]  # (V,) VEHICLE
    lane: NDArray[np.void]  # (N,) LANE
    ring: NDArray[np.void]  # RING
    move: NDArray[np.void]  # (M,) MOVE
    edge: NDArray[np.void]  # (E,) EDGE


@dataclass(frozen=True)
class MesoModel:
    """A network with a demand, ready to be run under any timing. Make one with `build_meso`."""

    network: Network
    demand: Demand  # scheduled in [begin_s, end_s)
    begin_s: float
    end_s: float
    streets: Streets
    traffic: Traffic
    _idle: SimpleQueue[State] = field(default_factory=SimpleQueue, compare=False)  # working memory between runs

    def run(self, timing: Timing, *, seed: int = 0, start: MesoStart | None = None) -> MesoResult:
        """One candidate in full detail, from empty streets or from `start`, whose drivers then are its own."""
        with self._memory() as state:
            self._drive(timing, self.factors(seed), CHOICE_SAMPLE_S, state, start, self.end_s)
            return self._result(state)

    def stop(self, timing: Timing, at_s: float, *, seed: int = 0) -> tuple[MesoResult, MesoStart]:
        """One candidate up to a moment, and the streets as they are then.

        Raises ValueError unless that is a whole number of seconds after the begin, within the span of the model.
        """
        if (at_s - self.begin_s) % 1.0 or not self.begin_s <= at_s <= self.end_s:
            raise ValueError(f"cannot stop at {at_s} s a run of whole seconds from {self.begin_s} to {self.end_s} s")
        with self._memory() as state:
            self._drive(timing, self.factors(seed), CHOICE_SAMPLE_S, state, None, at_s)
            rows = (state.vehicle, state.lane, state.ring, state.move, state.edge)
            return self._result(state), MesoStart(at_s, *(row.copy() for row in rows))

    def score(
        self,
        timings: Sequence[Timing],
        seeds: Sequence[int] = (0,),
        *,
        workers: int | None = None,
        start: MesoStart | None = None,
    ) -> Floats:
        """Mean delay (candidates, seeds) in s. Equal seeds draw equal drivers for every candidate."""
        factors = [self.factors(seed) for seed in seeds]
        scores = np.zeros((len(timings), len(seeds)))
        jobs = iter([(c, k) for c in range(len(timings)) for k in range(len(seeds))])
        weight = max(float(self.demand.weight.sum()), 1e-9)
        sample_s = CHOICE_SAMPLE_S if len(self.demand.other_of) else 0

        def work() -> None:
            with self._memory() as state:
                for c, k in jobs:
                    self._drive(timings[c], factors[k], sample_s, state, start, self.end_s)
                    scores[c, k] = state.result[R_DELAY] / weight

        threads = min(workers or os.cpu_count() or 1, scores.size)
        if threads <= 1:
            work()
            return scores
        with ThreadPoolExecutor(threads) as pool:
            for done in [pool.submit(work) for _ in range(threads)]:
                done.result()
        return scores

    @contextmanager
    def _memory(self) -> Iterator[State]:
        """Working memory that no other thread uses meanwhile."""
        try:
            state = self._idle.get_nowait()
        except Empty:
            state = new_state(self.network, self.streets, self.traffic)
        try:
            yield state
        finally:
            self._idle.put(state)

    def factors(self, seed: int) -> Floats:
        """Desired speed of each driver over the limit: SUMO's truncated normal, drawn by seed."""
        draw = np.random.default_rng(seed).standard_normal(len(self.demand))
        drawn: Floats = np.clip(self.demand.speed_factor + self.demand.speed_dev * draw, 0.2, 2.0)
        return drawn

    def _drive(
        self, timing: Timing, factors: Floats, sample_s: int, state: State, start: MesoStart | None, end_s: float
    ) -> None:
        plans = Plans(
            timing.plan_first,
            timing.from_s,
            timing.offset_s,
            timing.phase_first,
            timing.phase_s,
            timing.lamp_first,
            timing.lamps,
        )
        from_s, resumed = self.begin_s, start is not None
        if start is not None:
            from_s = start.at_s
            for rows, kept in (
                (state.vehicle, start.vehicle),
                (state.lane, start.lane),
                (state.ring, start.ring),
                (state.move, start.move),
                (state.edge, start.edge),
            ):
                rows[:] = kept
        run_streets(
            self.streets, self.traffic, plans, factors, self.begin_s, from_s - self.begin_s, end_s - self.begin_s,
            sample_s, resumed, state,
        )  # fmt: skip

    def _result(self, state: State) -> MesoResult:
        weight, got = max(float(self.demand.weight.sum()), 1e-9), state.result
        left = int(got[R_RUNNING] + got[R_NEVER])
        count = left + int(got[R_ARRIVED])
        return MesoResult(
            vehicles=count,
            arrived=int(got[R_ARRIVED]),
            running=int(got[R_RUNNING]),
            never_inserted=int(got[R_NEVER]),
            mean_delay_s=float(got[R_DELAY]) / weight,
            mean_insertion_delay_s=float(got[R_INSERTION]) / weight,
            stops=int(got[R_STOPS]),
            vehicle_s=float(got[R_VEHICLE_S]),
            jammed=left > JAM_FRAC * count,
            stuck=int(got[R_STUCK]),
            edge_delay_s=state.edge["delay_s"].copy(),
            edge_insertion_s=state.edge["insertion_s"].copy(),
            edge_left_veh=state.edge["left_veh"].copy(),
            edge_max_queue_veh=state.edge["longest_veh"].copy(),
        )


def build_meso(
    network: Network,
    demand: Demand,
    *,
    begin_s: float,
    end_s: float,
    saturation_vph: Floats | None = None,
    walkers_vph: Floats | None = None,
) -> MesoModel:
    """Static arrays for the vehicles scheduled in [begin_s, end_s). The streets are empty at `begin_s`.

    `saturation_vph` (M,): saturation flow per movement where known (NaN: from speed, headway and space of the
    drivers). `walkers_vph` (K,): walkers an hour on each signal link, of all signals one after the other; turns that
    meet them lose the share of green that they take. Raises ShapeError when one does not fit the network.
    """
    if saturation_vph is not None:
        check_shapes("M", saturation_vph=saturation_vph, turn=network.movements.turn)
    if walkers_vph is not None:
        check_shapes("K", walkers_vph=walkers_vph, links=np.zeros(sum(s.link_count for s in network.signals)))
    due = np.flatnonzero((demand.depart_s >= begin_s) & (demand.depart_s < end_s)).astype(np.int32)
    chosen = demand.select(due)
    streets = build_streets(network, chosen, saturation_vph, walkers_vph)
    return MesoModel(network, chosen, begin_s, end_s, streets, build_traffic(network, chosen, streets, begin_s))
