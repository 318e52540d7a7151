"""What announced closures, limits and rain will change: a mesoscopic run with them beside the same run without."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from forecasting.live_city import ExpectedChange
from networks.city import CityFolder
from networks.graph import Floats, Network
from scenarios.announced import Announced
from scenarios.edge_run import SEED, simulate_edges
from scenarios.prior import Prior
from scenarios.simulation import run_in_process

_NOISE_DEVIATIONS = 1.5  # of a Poisson count: differences of two runs below this say nothing and are left out
# Of the speed: past days of the zone differ by 7.5 %, one deviation. What all edges share, as in rain, is no noise.
_SPEED_NOISE_FRAC = 0.12


@dataclass(frozen=True, slots=True)
class Outlook:
    """What was announced and what it will change, against a day without it."""

    announced: Announced
    change: ExpectedChange


def foresee(city: CityFolder, network: Network, prior: Prior, announced: Announced) -> Outlook:
    """Run the city's demand with what was announced, in a process of its own, and compare it with the prior.

    Raises CityError when SUMO cannot load the city, ProcessError when its process dies.
    """
    grid = prior.profile.grid
    if not announced:
        nothing = np.zeros(prior.profile.flow_vps.shape)
        return Outlook(announced, ExpectedChange(grid, nothing, nothing))
    run = run_in_process(simulate_edges, city, network, grid.step_s, grid.count, (), SEED, announced)
    flow, speed = prior.profile.flow_vps, prior.profile.speed_mps
    noise_vps = _NOISE_DEVIATIONS * np.sqrt(np.maximum(flow, 1.0 / grid.step_s) / grid.step_s)
    ratio = run.speed_mps / np.maximum(speed, 0.1)
    common = np.ones((grid.count, 1))
    for step in range(grid.count if announced.showers else 0):
        driven = (flow[step] > 0) & (run.flow_vps[step] > 0)
        if driven.any():
            common[step] = np.median(ratio[step, driven])
    local = _beyond(ratio / common - 1.0, np.full(ratio.shape, _SPEED_NOISE_FRAC))
    change = ExpectedChange(grid, _beyond(run.flow_vps - flow, noise_vps), speed * (common * (1.0 + local) - 1.0))
    return Outlook(announced, change)


def _beyond(change: Floats, noise: Floats) -> Floats:
    """Changes beyond the noise as they are, smaller ones drawn to none (non-negative garrote, Breiman 1995)."""
    share = np.maximum(1.0 - (noise / np.maximum(np.abs(change), 1e-12)) ** 2, 0.0)
    drawn: Floats = change * share
    return drawn
