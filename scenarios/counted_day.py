"""The demand of some hours of a day from a city's loop counts, and the run of it through SUMO.

One working folder holds everything that is made on the way: a first prior, its ride through the mesoscopic model for
the lags, greens that let it through, and the demand itself. See `day_demand` for how flows come about.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import numpy as np

from networks.city import CityFolder
from networks.graph import Floats, Ints, Network
from scenarios.count_replay import HOUR_S, Replayed, replay
from scenarios.counts import write_routes
from scenarios.day_demand import (
    FREE_TIMES,
    Candidates,
    as_route_flows,
    day_flows,
    find_candidates,
    let_in,
    measured_lags,
    prior_flows,
    repeat_demand,
)
from scenarios.fitted_greens import write_fitted_greens
from scenarios.loop_days import LoopDays

WARM_UP_S = 1800.0
NEAR_GEH = 5.0


@dataclass(frozen=True)
class ClockHours:
    """Clock hours of a day: those that matter, and the one before them, whose second half warms up."""

    first: int  # from 1
    end: int  # to 24

    @property
    def driven(self) -> tuple[int, ...]:
        """Hours for which demand is made."""
        return tuple(range(self.first - 1, self.end))

    @property
    def scored(self) -> tuple[int, ...]:
        return self.driven[1:]

    @property
    def begin_s(self) -> float:
        return self.first * HOUR_S - WARM_UP_S

    @property
    def end_s(self) -> float:
        return self.end * HOUR_S


def draw_held(reported: Ints, hold: float, seed: int) -> Ints:
    """A share of loops that is kept out of the demand, for the score alone, ascending."""
    return np.sort(np.random.default_rng(seed).permutation(reported)[: round(hold * len(reported))])


def near_share(apart: Floats) -> dict[str, float | int | None]:
    """Of GEH distances: the share below 5, the mean (None of none), and how many."""
    some = len(apart) > 0
    return {
        "geh_lt5_share": float(np.mean(apart < NEAR_GEH)) if some else None,
        "mean_geh": float(np.mean(apart)) if some else None,
        "n": len(apart),
    }


@dataclass(frozen=True)
class Prior:
    """What usually departs, by hour and route, when it passes the loops, and the programmes under which it does."""

    flows: Floats  # (I, R) vehicles
    lag_s: Floats  # (N, R) from departure to each loop
    plans: tuple[Path, ...]


@dataclass
class CountedDay:
    """Makes and drives demand that meets counts. Nothing but `loops` is known of the counts."""

    city: CityFolder
    network: Network
    loops: LoopDays
    hours: ClockHours
    folder: Path  # that exists; files of one day type or day do not meet those of another
    seed: int = 1
    mesoscopic: bool = False  # judge in SUMO's mesoscopic model, under the city's own programmes: a quick look
    candidates: Candidates = field(init=False)
    timetabled: Path = field(init=False)  # buses and the like, all day long

    def __post_init__(self) -> None:
        self.candidates = find_candidates(self.city, self.network, self.loops.edge)
        self.timetabled = self.folder / "timetabled.rou.xml"
        span = self.hours.begin_s, self.hours.end_s
        repeat_demand(self.city, self.timetabled, *span, timetabled_only=True)

    def prior(self, usual: Floats, name: str) -> Prior:
        """From usual counts (24, N). `name`: of the files in the folder. Raises CityError, ProcessError."""
        first, rides = self.folder / f"{name}-first.rou.xml", self.folder / f"{name}-rides.xml"
        lag_s = FREE_TIMES * self.candidates.free_s
        flows = prior_flows(self.candidates, usual, self.hours.driven, lag_s)
        plans = self._fit_greens(flows, name)
        self.write(flows, first)
        self.drive((first,), plans=plans, mesoscopic=True, rides=rides)
        lag_s = measured_lags(self.candidates, self.loops.edge, rides, self.network)
        flows = prior_flows(self.candidates, usual, self.hours.driven, lag_s)
        if not self.mesoscopic:
            plans = self._fit_greens(flows, name)
            self.write(flows, first)
            ran = self.drive((first,), plans=plans)
            begun = np.full((len(flows), ran.begun.shape[1]), np.nan)
            begun[-len(ran.begun) :] = ran.begun
            flows = let_in(self.candidates, flows, begun)
        return Prior(flows, lag_s, plans)

    def live(self, day: date, prior: Prior) -> Floats:
        """(I, R) vehicles of a day as it would be lived: each hour after what the hours before it counted."""
        busier = [self.loops.busier(day, hour) for hour in self.hours.driven]
        return day_flows(self.candidates, busier, prior.flows, prior.lag_s)

    def write(self, flows: Floats, path: Path) -> None:
        """A SUMO route file of flows (I, R)."""
        given = as_route_flows(self.candidates, flows, self.hours.driven)
        write_routes(path, self.network, given, seed=self.seed, types=self.candidates.types)

    def drive(
        self,
        routes: Sequence[Path],
        *,
        plans: Sequence[Path] = (),
        mesoscopic: bool | None = None,
        rides: Path | None = None,
    ) -> Replayed:
        """The timetabled vehicles and these through SUMO. `rides`, `plans`: see `replay`."""
        return replay(
            self.city,
            self.network,
            (self.timetabled, *routes),
            begin_s=self.hours.begin_s,
            end_s=self.hours.end_s,
            seed=self.seed,
            mesoscopic=self.mesoscopic if mesoscopic is None else mesoscopic,
            rides=rides,
            plans=plans,
        )

    def _fit_greens(self, flows: Floats, name: str) -> tuple[Path, ...]:
        if self.mesoscopic:
            return ()
        greens, busiest = self.folder / f"{name}-greens.add.xml", flows[int(flows.sum(axis=1).argmax())]
        write_fitted_greens(self.network, self.candidates.routes, busiest, greens)
        return (greens,)
