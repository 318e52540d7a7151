"""How many of the scheduled departures really come: learned from what the first sensor on their way counts.

Every scheduled vehicle belongs to the first measured edge on its route. There the measured arrivals (what left the
edge and what it stored), less the vehicles that an upstream sensor has already corrected, over the scheduled ones
give a factor; departures are thinned or copied by it with error diffusion, so that no random number decides and the
count is never off by more than one.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np

from networks.graph import Bools, Floats

MEMORY_S = 900.0  # of the counts behind a factor: long against a signal cycle, short against a change of demand
PSEUDO_VEHICLES = 20.0  # weight of the network-wide factor in that of one sensor
LOWEST, HIGHEST = 0.3, 3.0


@dataclass(slots=True)
class DemandCorrection:
    """Factors per first sensor (E,) and the fractions of vehicles still owed.

    `scheduled`, `passing`, `measured` (E,): fading counts of vehicles at each measured edge: scheduled ones that meet
    their first sensor there, others, and what the street measured.
    """

    scheduled: Floats
    passing: Floats
    measured: Floats
    factor: Floats
    overall: float = 1.0
    owed: dict[int, float] = field(default_factory=lambda: defaultdict(float))

    @staticmethod
    def for_edges(count: int) -> DemandCorrection:
        return DemandCorrection(np.zeros(count), np.zeros(count), np.zeros(count), np.ones(count))

    def learn(
        self, scheduled_vps: Floats, passing_vps: Floats, measured_vps: Floats, use: Bools, span_s: float
    ) -> None:
        """Take in the rates (E,) of the last `span_s` seconds on the edges of `use`; the others keep their memory.

        All three are averages over the same window, so that their lags cancel. An edge that is full says nothing
        about demand: leave it out of `use`.
        """
        fade = math.exp(-span_s / MEMORY_S)
        rates = (self.scheduled, scheduled_vps), (self.passing, passing_vps), (self.measured, measured_vps)
        for memory, rate_vps in rates:
            memory[use] = memory[use] * fade + rate_vps[use] * span_s
        wanted = np.maximum(0.0, self.measured - self.passing)
        total = 5 * PSEUDO_VEHICLES
        self.overall = _bounded((wanted.sum() + total) / (self.scheduled.sum() + total))
        ratio = (wanted + PSEUDO_VEHICLES * self.overall) / (self.scheduled + PSEUDO_VEHICLES)
        self.factor = np.clip(ratio, LOWEST, HIGHEST)

    def factor_of(self, first_sensor: int) -> float:
        """-1: no sensor on its way, then the network-wide factor."""
        return float(self.factor[first_sensor]) if first_sensor >= 0 else self.overall

    def copies(self, first_sensor: int, allowed: tuple[int, int]) -> int:
        """How many vehicles shall depart for one scheduled, within `allowed`; the rest stays owed."""
        owed = self.owed[first_sensor] + self.factor_of(first_sensor)
        count = max(allowed[0], min(allowed[1], math.floor(owed + 0.5)))
        self.owed[first_sensor] = max(-2.0, min(2.0, owed - count))
        return count


def _bounded(value: float) -> float:
    return min(HIGHEST, max(LOWEST, value))
