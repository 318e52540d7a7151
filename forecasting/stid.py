"""A network of one city's own, without a graph: identities of place, time of day and weekday. The rival to beat.

After Shao et al. (2022), "Spatial-temporal identity: a simple yet effective baseline": lags and three embeddings
through residual layers. It cannot be carried to another city.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from forecasting.features import WindowFeatures
from forecasting.forecasters import FittedCity, around
from forecasting.series import STEPS_IN, STEPS_OUT
from forecasting.train import pace

_WIDTH = 32
_LAYERS = 3
_BATCH_WINDOWS = 32
_RATE = 2e-3


class StidNet(nn.Module):
    """(lags and masks (B, N, 24), time of day (B,), weekday (B,)) -> (B, N, 12)."""

    def __init__(self, nodes: int, per_day: int) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.randn(nodes, _WIDTH) * 0.1)
        self.time = nn.Parameter(torch.randn(per_day, _WIDTH) * 0.1)
        self.day = nn.Parameter(torch.randn(7, _WIDTH) * 0.1)
        self.enter = nn.Linear(2 * STEPS_IN, _WIDTH)
        width = 4 * _WIDTH
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Dropout(0.15), nn.Linear(width, width))
            for _ in range(_LAYERS)
        )
        self.leave = nn.Linear(width, STEPS_OUT)

    def forward(self, lags: torch.Tensor, time: torch.Tensor, day: torch.Tensor) -> torch.Tensor:
        shape = (lags.shape[0], lags.shape[1], _WIDTH)
        parts = [self.enter(lags), self.place.expand(shape)]
        parts += [self.time[time][:, None].expand(shape), self.day[day][:, None].expand(shape)]
        z = torch.cat(parts, dim=-1)
        for layer in self.layers:
            z = z + layer(z)
        answer: torch.Tensor = self.leave(z)
        return answer


class Stid:
    """Trained on the training part of one city, and good for that city alone."""

    name = "STID"

    def __init__(self, net: StidNet) -> None:
        self._net = net.eval()

    @torch.no_grad()
    def quantiles(self, city: FittedCity, features: WindowFeatures, starts: torch.Tensor) -> torch.Tensor:
        context = city.context
        known = features.extra[..., :STEPS_IN]
        rows = starts[:, None] + torch.arange(STEPS_IN)
        given = features.linear[..., :STEPS_IN] * context.scale[:, None, None] + context.usual[rows].permute(2, 0, 1)
        lags = torch.cat(
            [(given - context.mean[:, None, None]) / context.spread[:, None, None] * known, known], dim=-1
        )
        value = self._net(lags.transpose(0, 1), *_clock(city, starts)).transpose(0, 1)
        value = value * context.spread[:, None, None] + context.mean[:, None, None]
        ahead = context.usual[starts[:, None] + STEPS_IN + torch.arange(STEPS_OUT)].permute(2, 0, 1)
        return around((value - ahead) / context.scale[:, None, None])


def train_stid(
    city: FittedCity, *, steps: int = 3000, seed: int = 0, on_step: Callable[[int], None] = lambda _: None
) -> Stid:
    """Mean absolute error in the unit of the series, Adam, half a cosine."""
    torch.manual_seed(seed)
    context = city.context
    net = StidNet(context.nodes, context.grid.per_day)
    optimiser = torch.optim.Adam(net.parameters(), lr=_RATE, weight_decay=1e-4)
    values = context.usual + context.deviation * context.scale
    lags = torch.where(context.known, (values - context.mean) / context.spread, 0.0)
    known = context.known.float()
    for step in range(steps):
        rng = np.random.default_rng((seed, step))
        for group in optimiser.param_groups:
            group["lr"] = _RATE * pace(step, steps)
        starts = city.starts[torch.from_numpy(rng.integers(0, len(city.starts), _BATCH_WINDOWS))]
        rows, ahead = starts[:, None] + torch.arange(STEPS_IN), starts[:, None] + STEPS_IN + torch.arange(STEPS_OUT)
        inputs = torch.cat([lags[rows], known[rows]], dim=1).transpose(1, 2)
        forecast = net(inputs, *_clock(city, starts)).transpose(1, 2)
        loss = ((forecast - lags[ahead]).abs() * context.spread * known[ahead]).sum()
        loss = loss / (known[ahead] * context.spread).sum().clamp(min=1.0)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimiser.step()
        on_step(1)
    return Stid(net)


def _clock(city: FittedCity, starts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Time of day and weekday of the last input."""
    row = starts.numpy() + STEPS_IN - 1
    when = city.context.grid.start_s[row]
    step = (when % 86400 // city.context.step_s) % city.context.grid.per_day
    return torch.from_numpy(step), torch.from_numpy(city.context.grid.weekday[row])
