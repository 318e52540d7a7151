"""What the retimer's search asks of a scorer, be it the mesoscopic model or SUMO itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from networks.graph import VEHICLE_SPACE_M, Floats, Network
from signals.retime_plans import StageTiming

Objective = Literal["person-delay", "stops", "emissions", "queues", "bandwidth"]

# A stop of 1.4 t from 50 km/h takes 135 kJ, 17 ml of petrol at an efficiency of 25 %; idling takes about 0.22 ml/s.
STOP_AS_IDLING_S = 75.0
STOP_WEIGHT_S = 60.0  # of the objective `stops`, where delay itself counts a tenth so that nobody is held for ever
QUEUE_WEIGHT = 8.0  # of the share of an edge that its mean queue fills

Timings = Mapping[int, StageTiming]  # by dense signal index; a signal that is left out keeps its shipped programme


@dataclass(frozen=True, slots=True)
class Sample:
    """One draw of traffic: the seed of drivers and the factor on the demand."""

    seed: int
    demand: float = 1.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one sample came to under one set of timings."""

    vehicles: int
    mean_delay_s: float  # time loss and insertion delay, over every vehicle of the demand; inf: given up as hopeless
    mean_cost: float  # what the objective makes of the run; the delay itself where delay is the objective
    edge_cost: Floats  # (E,) total of the same per edge
    stops: float  # a vehicle
    jammed: bool  # too much of the demand still in or waiting for the network at the end
    load_veh: Floats  # (T,) vehicles in or waiting for the network through time; empty where not known


@dataclass(frozen=True, slots=True)
class Trial:
    """Timings to be measured on a sample; `rival` is the outcome to beat, so that a hopeless run may be given up."""

    timings: Timings
    sample: Sample
    rival: Outcome | None = None


class Scorer(Protocol):
    """Measures timings. Equal trials have equal outcomes."""

    def measure(self, trials: Sequence[Trial]) -> list[Outcome]:
        """Outcomes in the order of the trials."""


def price(
    objective: Objective, network: Network, edge_delay_s: Floats, mean_delay_s: float, stops: float, span_s: float
) -> tuple[float, Floats]:
    """Mean cost a vehicle and cost by edge (E,) of a run with `stops` a vehicle over `span_s`.

    With `bandwidth` the bands are given and the cost is delay. Cost by edge says where to look; stops are not known
    by edge and leave it in proportion to delay.
    """
    if objective == "stops":
        cost = STOP_WEIGHT_S * stops + 0.1 * mean_delay_s
    elif objective == "emissions":
        cost = STOP_AS_IDLING_S * stops + mean_delay_s
    elif objective == "queues":
        storage_veh = network.edges.length_m * np.maximum(network.edges.lane_count, 1) / VEHICLE_SPACE_M
        filled = edge_delay_s / span_s / np.maximum(storage_veh, 1.0)
        weighted = edge_delay_s * (1.0 + QUEUE_WEIGHT * filled)
        return mean_delay_s * float(weighted.sum()) / max(float(edge_delay_s.sum()), 1e-9), weighted
    else:
        return mean_delay_s, edge_delay_s
    return cost, edge_delay_s * (cost / max(mean_delay_s, 1e-9))
