"""The city adapter: the shared model goes on learning on one city's own training windows.

Where weeks are known, an embedding per place and per hour of the week is added to the tokens; both begin at zero, so
that training begins at the shared model. With fewer days an hour of the week names its day, and would be learnt by
heart. Windows that no adapter saw decide how much of the adapted forecast is mixed in, down to none.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from forecasting.features import WindowFeatures, window_features
from forecasting.forecasters import FittedCity
from forecasting.model import MIDDLE, GraphModel, deviations, pinball
from forecasting.series import DAY_S, WINDOW
from forecasting.train import draw_hidden, native_bf16, pace

_HOURS = 168
_RANK = 16
_LEAST_DAYS = 14.0  # of history for embeddings
_HELD_BACK = 0.15  # of the training windows, the last ones, where no later ones can judge
_FEWEST_WINDOWS = 200  # below, nothing is adapted
_FEWEST_JUDGED = 40
_TOKENS = 4096
_MASKED_SHARE = 0.3
_MOST_MASKED = 0.4
_MODEL_RATE, _ADAPTER_RATE = 1e-3, 3e-3
_AVERAGE = 0.99
_MIXES = (0.0, 0.25, 0.5, 0.75, 1.0)


class Adapter(nn.Module):
    """(hour of the week of the first target) -> what is added to the tokens (N, B, hidden)."""

    def __init__(self, nodes: int, hidden: int) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.randn(nodes, _RANK) * 0.1)
        self.hour = nn.Parameter(torch.randn(_HOURS, _RANK) * 0.1)
        self.from_place = nn.Linear(_RANK, hidden, bias=False)
        self.from_hour = nn.Linear(_RANK, hidden, bias=False)
        self.from_both = nn.Linear(_RANK, hidden, bias=False)
        for layer in (self.from_place, self.from_hour, self.from_both):
            nn.init.zeros_(layer.weight)

    def forward(self, hour: torch.Tensor) -> torch.Tensor:
        place, when = self.place[:, None], self.hour[hour][None]
        both: torch.Tensor = self.from_place(place) + self.from_hour(when) + self.from_both(place * when)
        return both


class Adapted:
    """A forecaster of one city: the shared models and their adapted copies, mixed."""

    def __init__(
        self, name: str, shared: list[GraphModel], adapted: list[tuple[GraphModel, Adapter | None]], mix: float
    ) -> None:
        self.name = name
        self.mix = mix
        self._shared = shared
        self._adapted = adapted

    @torch.no_grad()
    def quantiles(self, city: FittedCity, features: WindowFeatures, starts: torch.Tensor) -> torch.Tensor:
        both = []
        if self.mix < 1.0:
            plain = [deviations(m, city.context, city.ridge, features) for m in self._shared]
            both.append((1.0 - self.mix) * torch.stack(plain).mean(dim=0))
        if self.mix > 0.0:
            own = [
                deviations(m, city.context, city.ridge, features, None, _offset(a, city, starts))
                for m, a in self._adapted
            ]
            both.append(self.mix * torch.stack(own).mean(dim=0))
        return torch.stack(both).sum(dim=0)


def adapt_model(
    name: str, members: list[GraphModel], city: FittedCity, *, steps: int = 2400, seed: int = 0,
    judged: torch.Tensor | None = None, on_step: Callable[[int], None] = lambda _: None,
) -> Adapted:  # fmt: skip
    """Adapt every member to the training part of a city; `steps` are shared among the members.

    `judged`: grid rows of windows after the training part that may be looked at to choose the mix; without enough of
    them the last training windows are held back for it.
    """
    fit = city.starts
    if len(fit) < _FEWEST_WINDOWS:
        return Adapted(name, members, [], 0.0)
    if judged is None or len(judged) < _FEWEST_JUDGED:
        fit = city.starts[: round(len(city.starts) * (1.0 - _HELD_BACK))]
        judged = city.starts[len(fit) :]
        judged = judged[judged >= fit[-1] + WINDOW]
    each = max(1, steps // len(members))
    adapted = [_adapt_one(member, city, fit, each, seed + k, on_step) for k, member in enumerate(members)]
    mix = _best_mix(name, members, adapted, city, judged)
    return Adapted(f"{name}, adapted" if mix else name, members, adapted, mix)


def _adapt_one(
    member: GraphModel, city: FittedCity, fit: torch.Tensor, steps: int, seed: int, on_step: Callable[[int], None]
) -> tuple[GraphModel, Adapter | None]:
    torch.manual_seed(seed)
    context = city.context
    model = copy.deepcopy(member).train()
    adapter = Adapter(context.nodes, model.shape.hidden) if context.history_days >= _LEAST_DAYS else None
    average = copy.deepcopy((model, adapter))
    moved = [*model.parameters(), *(adapter.parameters() if adapter is not None else ())]
    groups: list[dict[str, object]] = [{"params": list(model.parameters()), "rate": _MODEL_RATE}]
    if adapter is not None:
        groups.append({"params": list(adapter.parameters()), "rate": _ADAPTER_RATE})
    optimiser = torch.optim.AdamW(groups, weight_decay=0.02, fused=True)
    weight = (context.scale / context.scale.mean()).clamp(max=5.0)
    windows = max(1, min(_TOKENS // context.nodes, len(fit)))
    for step in range(steps):
        rng = np.random.default_rng((seed, step))
        for group in optimiser.param_groups:
            group["lr"] = group["rate"] * pace(step, steps)
        starts = fit[torch.from_numpy(np.sort(rng.integers(0, len(fit), windows)))]
        hidden = draw_hidden(rng, windows, context.nodes, _MOST_MASKED) if rng.random() < _MASKED_SHARE else None
        features = window_features(context, starts, hidden=hidden)
        with torch.autocast("cpu", torch.bfloat16, enabled=native_bf16()):
            quantiles = deviations(model, context, city.ridge, features, starts, _offset(adapter, city, starts))
        loss = pinball(quantiles, features.target, features.target_known.float(), weight)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(moved, 1.0)
        optimiser.step()
        keep = min(_AVERAGE, (1 + step) / (10 + step))
        with torch.no_grad():
            for kept, new in zip(average, (model, adapter), strict=True):
                if kept is not None and new is not None:
                    torch._foreach_lerp_(list(kept.parameters()), list(new.parameters()), 1.0 - keep)
        on_step(step)
    return average[0].eval(), average[1]


def _best_mix(
    name: str, members: list[GraphModel], adapted: list[tuple[GraphModel, Adapter | None]], city: FittedCity,
    judged: torch.Tensor,
) -> float:  # fmt: skip
    """The share of the adapted forecast with the least absolute error on windows that no adapter saw."""
    if not len(judged):
        return 0.0
    context = city.context
    plain, own = Adapted(name, members, adapted, 0.0), Adapted(name, members, adapted, 1.0)
    error = np.zeros(len(_MIXES))
    size = max(1, 24_000 // context.nodes)
    for begin in range(0, len(judged), size):
        part = judged[begin : begin + size]
        features = window_features(context, part)
        first = plain.quantiles(city, features, part)[..., MIDDLE]
        second = own.quantiles(city, features, part)[..., MIDDLE]
        weight = features.target_known * context.scale[:, None, None]
        for k, mix in enumerate(_MIXES):
            mixed = (1.0 - mix) * first + mix * second
            error[k] += float(((mixed - features.target).abs() * weight).sum())
    return _MIXES[int(np.argmin(error))]


def _offset(adapter: Adapter | None, city: FittedCity, starts: torch.Tensor) -> torch.Tensor | None:
    if adapter is None:
        return None
    offset: torch.Tensor = adapter(hour_of_week(city, starts))
    return offset


def hour_of_week(city: FittedCity, starts: torch.Tensor) -> torch.Tensor:
    """Of the first target of windows at grid rows `starts`; 0 is Monday midnight."""
    grid = city.context.grid
    rows = np.minimum(starts.numpy() + WINDOW // 2, len(grid.start_s) - 1)
    hour = grid.weekday[rows] * 24 + grid.start_s[rows] % DAY_S // 3600
    return torch.from_numpy(hour.astype(np.int64))
