"""One interface for everything that forecasts: last value, profile, ridge and the graph model. STID is in `stid`.

Each gives quantiles of the deviation from the usual value; `backcast.forecast_windows` turns them into flows and
speeds, holds their bands to their promise and can compare any two of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from forecasting.city_context import CityContext, fit_context, grid_starts
from forecasting.features import WindowFeatures
from forecasting.lags import carry_on, fit_lags
from forecasting.model import GraphModel, deviations
from forecasting.ridge import CityRidge, fit_ridge
from forecasting.series import STEPS_IN, STEPS_OUT, WINDOW, CitySeries
from networks.state import QUANTILES

_NORMAL = torch.special.ndtri(torch.tensor(QUANTILES))  # before anything was measured errors are taken as normal


@dataclass(frozen=True, slots=True)
class FittedCity:
    """A city as forecasters meet it; fitted in closed form on its training part."""

    series: CitySeries
    context: CityContext
    ridge: CityRidge
    lags: torch.Tensor  # weights of `lags.carry_on`
    starts: torch.Tensor  # (W,) grid rows of the training windows


def fit_city(
    series: CitySeries, training_rows: int | None = None, *, steps_in: int = STEPS_IN, steps_out: int = STEPS_OUT
) -> FittedCity:
    """Fit on the first rows. Windows of fewer than twelve steps, for series cut into short runs, are windows of
    twelve of which the first inputs and the last targets may be missing."""
    rows = series.training_rows() if training_rows is None else training_rows
    context = fit_context(series, rows)
    starts = grid_starts(context, series.window_starts(steps_in + steps_out)) - (STEPS_IN - steps_in)
    starts = starts[(starts >= 0) & (starts + WINDOW <= context.training)]
    return FittedCity(series, context, fit_ridge(context, starts), fit_lags(context, starts), starts)


class WindowForecaster(Protocol):
    """Forecasts windows of a fitted city."""

    name: str

    def quantiles(self, city: FittedCity, features: WindowFeatures, starts: torch.Tensor) -> torch.Tensor:
        """Deviations from the usual value over scale, (N, B, 12, Q), for windows at grid rows `starts` (B,)."""


class LastValue:
    """The last reading goes on; a missing one is the profile plus the window's mean deviation from it."""

    name = "last value"

    def quantiles(self, city: FittedCity, features: WindowFeatures, starts: torch.Tensor) -> torch.Tensor:
        context = city.context
        last = context.usual[starts + 11].T + features.linear[..., 11] * context.scale[:, None]  # (N, B)
        rows_out = starts[:, None] + 12 + torch.arange(STEPS_OUT)
        ahead = context.usual[rows_out.clamp(max=len(context.usual) - 1)].permute(2, 0, 1)
        return around((last[..., None] - ahead) / context.scale[:, None, None])


class Profile:
    """The usual value at this time of day and week."""

    name = "profile"

    def quantiles(self, city: FittedCity, features: WindowFeatures, starts: torch.Tensor) -> torch.Tensor:
        return around(torch.zeros(*features.linear.shape[:2], STEPS_OUT))


class Ridge:
    """The city's own linear forecast: shared with graph terms, and corrected per place where that was worth it."""

    name = "ridge"

    def quantiles(self, city: FittedCity, features: WindowFeatures, starts: torch.Tensor) -> torch.Tensor:
        return around(city.ridge.predict(features.linear)[1])


class Lags:
    """The city moves on from its last readings as it usually moves; no profile."""

    name = "lags"

    def quantiles(self, city: FittedCity, features: WindowFeatures, starts: torch.Tensor) -> torch.Tensor:
        return around(carry_on(city.context, city.lags, features.linear))


class Graph:
    """The mean of one or several trained graph models."""

    def __init__(self, models: list[GraphModel], name: str = "graph model") -> None:
        self.name = name
        self._models = [model.eval() for model in models]

    @torch.no_grad()
    def quantiles(self, city: FittedCity, features: WindowFeatures, starts: torch.Tensor) -> torch.Tensor:
        each = [deviations(model, city.context, city.ridge, features) for model in self._models]
        return torch.stack(each).mean(dim=0)


def around(middle: torch.Tensor) -> torch.Tensor:
    """Quantiles (..., Q) of normal errors of one scale around a point forecast."""
    spread: torch.Tensor = middle[..., None] + _NORMAL
    return spread
