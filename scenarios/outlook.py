"""What announced closures, limits and rain will change: a mesoscopic run with them beside the same run without."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from forecasting.live_city import ExpectedChange
from networks.city import CityFolder
from networks.graph import Floats, Network
from scenarios.announced import Announced
from scenarios.edge_run import SEED, simulate_edges
from scenarios.prior import Prior
from scenarios.simulation import run_in_process

_NOISE_DEVIATIONS = 1.5  # of a Poisson count: differences of two runs below this say nothing and are left out
_SPEED_NOISE_FRAC = 0.12  # of the speed: past days of the zone differ by 7.5 %, one deviation


@dataclass(frozen=True, slots=True)
class Outlook:
    """What was announced and what it will change, against a day without it."""

    announced: Announced
    change: ExpectedChange


def foresee(city: CityFolder, network: Network, prior: Prior, announced: Announced) -> Outlook:
    """Run the city's demand with what was announced, in processes of their own, and compare it with the prior.

    Closed and slower edges change what differs from the prior beyond the noise of two runs. Rain changes all speeds
    by one factor a step, that of the median edge: which single edges jam in a wet run is chance, and taking it over
    made forecasts of the zone worse than not knowing of the rain.

    Raises CityError when SUMO cannot load the city, ProcessError when its process dies.
    """
    grid, flow, speed = prior.profile.grid, prior.profile.flow_vps, prior.profile.speed_mps
    flow_change, local, common = np.zeros(flow.shape), np.zeros(flow.shape), np.ones((grid.count, 1))
    if announced.edges:
        run = run_in_process(
            simulate_edges, city, network, grid.step_s, grid.count, (), SEED, replace(announced, showers=())
        )
        noise_vps = _NOISE_DEVIATIONS * np.sqrt(np.maximum(flow, 1.0 / grid.step_s) / grid.step_s)
        flow_change = _beyond(run.flow_vps - flow, noise_vps)
        ratio = run.speed_mps / np.maximum(speed, 0.1)
        local = _beyond(ratio - 1.0, np.full(ratio.shape, _SPEED_NOISE_FRAC))
    if announced.showers:
        run = run_in_process(
            simulate_edges, city, network, grid.step_s, grid.count, (), SEED, replace(announced, edges=())
        )
        for step in range(grid.count):
            driven = (flow[step] > 0) & (run.flow_vps[step] > 0) & (speed[step] > 0)
            if driven.any():
                common[step] = np.median(run.speed_mps[step, driven] / speed[step, driven])
    return Outlook(announced, ExpectedChange(grid, flow_change, speed * (common * (1.0 + local) - 1.0)))


def _beyond(change: Floats, noise: Floats) -> Floats:
    """Changes beyond the noise as they are, smaller ones drawn to none (non-negative garrote, Breiman 1995)."""
    share = np.maximum(1.0 - (noise / np.maximum(np.abs(change), 1e-12)) ** 2, 0.0)
    drawn: Floats = change * share
    return drawn
