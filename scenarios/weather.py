"""What rain does to driving: slower wishes and longer headways."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

_RAIN_MM_H = (0.0, 0.25, 16.0)
_SPEED_FRAC = (1.0, 0.972, 0.925)  # FHWA-HOP-07-073 (2006), 5.1: free-flow speed -2 to -3.6 % light, -6 to -9 % heavy
_CAPACITY_MM_H = (0.0, 1.27, 4.45, 6.35)  # middles of the classes; the last is where the highest begins
_CAPACITY_FRAC = (1.0, 0.9799, 0.9276, 0.8587)  # HCM 2010, exhibit 10-15


class Driving(NamedTuple):
    """Factors on a driver's desired speed and time headway."""

    speed_frac: float
    headway_frac: float


def driving_in_rain(rain_mm_h: float, *, strength: float = 1.0) -> Driving:
    """Factors at a rate of rain, interpolated between the classes of the sources.

    `strength` scales both effects: how much these drivers mind. Jam density is not touched (same source).
    """
    speed = 1.0 - strength * (1.0 - float(np.interp(rain_mm_h, _RAIN_MM_H, _SPEED_FRAC)))
    capacity = 1.0 - strength * (1.0 - float(np.interp(rain_mm_h, _CAPACITY_MM_H, _CAPACITY_FRAC)))
    return Driving(speed, 1.0 / capacity)


_DRY = Driving(1.0, 1.0)


class RainyDriving:
    """Lets every vehicle of a simulation drive as one does in the rain of the moment."""

    def __init__(self, sumo: Any, *, strength: float = 1.0, raining_mm_h: float = 0.0) -> None:
        """`raining_mm_h`: what the vehicles of a loaded snapshot drive in already."""
        self._vehicle, self._strength = sumo.vehicle, strength
        self._now = driving_in_rain(raining_mm_h, strength=strength)

    def apply(self, rain_mm_h: float, departed: Sequence[str]) -> None:
        """Call every step with the vehicles that departed in it."""
        wanted = driving_in_rain(rain_mm_h, strength=self._strength)
        if wanted != self._now:
            fresh = set(departed)
            for name in self._vehicle.getIDList():
                if name not in fresh:
                    self._change(name, self._now, wanted)
            self._now = wanted
        if self._now != _DRY:
            for name in departed:
                self._change(name, _DRY, self._now)

    def _change(self, name: str, before: Driving, after: Driving) -> None:
        api = self._vehicle
        api.setSpeedFactor(name, api.getSpeedFactor(name) * after.speed_frac / before.speed_frac)
        api.setTau(name, api.getTau(name) * after.headway_frac / before.headway_frac)
