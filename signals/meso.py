"""The mesoscopic traffic model: many signal timings of a whole network, scored fast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from networks.graph import Floats, Network
from signals.meso_demand import Demand, car_demand
from signals.meso_timing import Timing, timing_of, timing_of_day

__all__ = [
    "Demand",
    "MesoModel",
    "MesoResult",
    "Timing",
    "build_meso",
    "car_demand",
    "timing_of",
    "timing_of_day",
]


@dataclass(frozen=True, slots=True)
class MesoResult:
    """One run. Delays are time loss plus insertion delay, of vehicles still driving or waiting both up to the end.

    Edge figures belong to the edge at whose end the vehicle waits; insertion delay counts with the first edge.
    """

    vehicles: int  # scheduled in [begin, end)
    arrived: int
    running: int
    never_inserted: int
    mean_delay_s: float  # weighted by Demand.weight, over every scheduled vehicle
    mean_insertion_delay_s: float
    stops: int  # vehicles that came to rest at a stop line or behind a queue, each time
    vehicle_s: float  # time in the network, summed
    jammed: bool  # more than 15 % of the demand still in or waiting for the network at the end
    edge_delay_s: Floats  # (E,) total, insertion included
    edge_left_veh: Floats  # (E,) throughput
    edge_max_queue_veh: Floats  # (E,)
    edge_mean_queue_veh: Floats  # (E,)
    signal_delay_s: Floats  # (S,) total on the edges that end at the signal


@dataclass(frozen=True, slots=True)
class MesoModel:
    """A network with a demand, ready to be run under any timing."""

    network: Network
    demand: Demand
    begin_s: float
    end_s: float

    def run(self, timing: Timing, *, seed: int = 0) -> MesoResult:
        """One candidate in full detail."""
        raise NotImplementedError

    def score(self, timings: Sequence[Timing], seeds: Sequence[int] = (0,), *, workers: int | None = None) -> Floats:
        """Mean delay (candidates, seeds). Equal seeds draw equal drivers for every candidate."""
        raise NotImplementedError


def build_meso(
    network: Network,
    demand: Demand,
    *,
    begin_s: float,
    end_s: float,
    saturation_vph: Floats | None = None,
) -> MesoModel:
    """Static arrays for the vehicles scheduled in [begin_s, end_s). The streets are empty at `begin_s`.

    `saturation_vph` (M,): saturation flow per movement where known (NaN: estimated from the network).
    """
    raise NotImplementedError
