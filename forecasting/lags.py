"""How a city moves on from its last readings, without any profile: what remains when the profile is wrong.

A ridge on the movements of the last twelve steps, of the place, of places alike and of the whole city, all measured
from their last value. It knows no time of day, so that a holiday or a weekend never seen before does not mislead it.
"""

from __future__ import annotations

import torch

from forecasting.city_context import CityContext
from forecasting.features import AHEAD, ALIKE, CITY, PAST, window_features
from forecasting.ridge import enough_known, solve
from forecasting.series import STEPS_IN, STEPS_OUT

_TOKENS = 40_000
_PART_TOKENS = 20_000
_WEIGHT = 20.0
_FARTHEST, _CLIP = 8.0, 6.0  # scales: of a movement read, of one to be learnt


def fit_lags(context: CityContext, starts: torch.Tensor) -> torch.Tensor:
    """Weights (3 * 11 + 1, 12), fitted on a sample of the windows at grid rows `starts`."""
    order = torch.randperm(len(starts), generator=torch.Generator().manual_seed(0))
    chosen = starts[order[: max(200, _TOKENS // context.nodes)]]
    width = 3 * (STEPS_IN - 1) + 1
    gram = torch.zeros(width, width, dtype=torch.float64)
    moment = torch.zeros(width, STEPS_OUT, dtype=torch.float64)
    for part in torch.split(chosen, max(1, _PART_TOKENS // context.nodes)):
        features = window_features(context, part)
        moved, last, ahead = _movements(context, features.linear)
        known = features.target_known.float()
        count = known.sum(dim=-1, keepdim=True)
        wanted = (features.target + ahead - last).clamp(-_CLIP, _CLIP) * known
        wanted = torch.where(features.target_known, wanted, wanted.sum(dim=-1, keepdim=True) / count.clamp(min=1.0))
        good = enough_known(count)
        x, y = (moved * good).flatten(0, 1), (wanted * good).flatten(0, 1)
        gram += (x.T @ x).double()
        moment += (x.T @ y).double()
    return solve(gram, moment, _WEIGHT)


def carry_on(context: CityContext, weights: torch.Tensor, linear: torch.Tensor) -> torch.Tensor:
    """Deviations from the usual value over scale (N, B, 12) of the linear features (N, B, LINEAR)."""
    moved, last, ahead = _movements(context, linear)
    return moved @ weights + last - ahead


def _movements(context: CityContext, linear: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Movements and a one (N, B, 34), the last value (N, B, 1) and the usual ahead (N, B, 12), over scale."""
    unit = (context.spread / context.scale)[:, None, None]
    value = linear[..., PAST] * unit + linear[..., :STEPS_IN]
    parts = [part[..., :-1] - part[..., -1:] for part in (value, linear[..., ALIKE], linear[..., CITY])]
    last = value[..., -1:]
    moved = torch.cat([*(p.clamp(-_FARTHEST, _FARTHEST) for p in parts), torch.ones_like(last)], dim=-1)
    return moved, last, linear[..., AHEAD] * unit
