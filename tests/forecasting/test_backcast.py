"""No forecast may see what had not been measured; a bad model or feed may not speak."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from forecasting.backcast import forecast_next, forecast_windows, held_out_verdict
from forecasting.city_context import grid_starts
from forecasting.features import WindowFeatures, window_features
from forecasting.forecasters import FittedCity, Graph, LastValue, Profile, Ridge, WindowForecaster, around, fit_city
from forecasting.model import GraphModel, ModelShape, deviations
from forecasting.series import CitySeries
from forecasting.stid import train_stid
from forecasting.window_file import WindowSet
from networks.errors import InputError
from tests.forecasting.cities import drawn_city

SHAPE = ModelShape(hidden=16, blocks=2, message=4, hubs=2)


def graph(seed: int = 0) -> Graph:
    torch.manual_seed(seed)
    return Graph([GraphModel(SHAPE)])


def cut(city: CitySeries, count: int = 40) -> WindowSet:
    starts = city.split_starts()[2][-count:]
    return WindowSet(city.values[starts[:, None] + np.arange(12)], starts, city.training_rows())


@pytest.fixture(scope="module")
def city() -> CitySeries:
    return drawn_city(days=8)


@pytest.fixture(scope="module")
def fitted(city: CitySeries) -> FittedCity:
    return fit_city(city)


@pytest.mark.parametrize("forecaster", [LastValue(), Profile(), Ridge(), graph()], ids=lambda f: f.name)
def test_rows_from_a_windows_start_on_change_nothing(city: CitySeries, forecaster: WindowForecaster) -> None:
    windows = cut(city)
    last = int(windows.start_row[-1])
    poisoned = city.values.copy()
    poisoned[last:] = 7777.0
    other = replace(city, values=poisoned)
    first = forecast_windows(fit_city(city), windows, forecaster, guarded=True).quantiles
    second = forecast_windows(fit_city(other), windows, forecaster, guarded=True).quantiles
    np.testing.assert_array_equal(first[-1], second[-1])


@pytest.mark.parametrize("forecaster", [LastValue(), Profile(), Ridge(), graph()], ids=lambda f: f.name)
def test_quantiles_ascend_and_are_possible(
    city: CitySeries, fitted: FittedCity, forecaster: WindowForecaster
) -> None:
    made = forecast_windows(fitted, cut(city), forecaster)
    assert np.isfinite(made.quantiles).all()
    assert (np.diff(made.quantiles, axis=-1) >= 0).all()
    assert (made.quantiles >= 0).all()
    assert made.producers == {forecaster.name: 40}


@settings(max_examples=15)
@given(st.integers(0, 2**31), st.floats(0.0, 1.0))
def test_the_model_answers_whatever_is_missing(seed: int, share: float) -> None:
    city = _CITY
    rng = np.random.default_rng(seed)
    starts = city.starts[:3]
    hidden = torch.from_numpy(rng.random((3, 12, city.context.nodes)) < share)
    features = window_features(city.context, starts, hidden=hidden)
    quantiles = graph(seed % 7).quantiles(city, features, starts)
    assert torch.isfinite(quantiles).all()
    assert (quantiles.diff(dim=-1) > 0).all()


_CITY = fit_city(drawn_city(days=4, nodes=4))


def test_the_order_of_places_does_not_matter() -> None:
    city = drawn_city(days=5, nodes=5)
    order = np.array([3, 0, 4, 1, 2])
    where = np.argsort(order)
    turned = replace(city, values=np.ascontiguousarray(city.values[:, order]), edges=where[city.edges])
    torch.manual_seed(0)
    model = GraphModel(SHAPE).eval()
    answers = []
    for one in (city, turned):
        fit = fit_city(one)
        features = window_features(fit.context, fit.starts[-4:])
        answers.append(deviations(model, fit.context, _CITY_RIDGE(fit), features).detach())
    np.testing.assert_allclose(answers[0][order], answers[1], atol=2e-3)


def _CITY_RIDGE(fit: FittedCity):  # type: ignore[no-untyped-def]  # noqa: N802
    """A ridge that forecasts nothing: sampling of the fit depends on the order, the model must not."""
    return replace(fit.ridge, shared=torch.zeros_like(fit.ridge.shared), own=torch.zeros_like(fit.ridge.own))


class Nonsense:
    name = "nonsense"

    def quantiles(self, city: FittedCity, features: WindowFeatures, starts: torch.Tensor) -> torch.Tensor:
        return around(torch.full((*features.linear.shape[:2], 12), 3.0))


def test_a_model_worse_than_the_profile_is_refused_and_replaced(city: CitySeries, fitted: FittedCity) -> None:
    made = forecast_windows(fitted, cut(city), Nonsense(), guarded=True)
    assert set(made.producers) <= {"ridge", "profile", "last value"}
    assert made.verdict is not None
    assert not made.verdict.passes
    assert any("profile" in reason for reason in made.verdict.reasons)
    verdict = held_out_verdict(fitted, city.split_starts()[2][-60:], Nonsense())
    assert not verdict.passes


def test_a_stale_or_poisoned_feed_falls_back_to_the_profile(city: CitySeries, fitted: FittedCity) -> None:
    windows = cut(city, 3)
    silent, wild, stuck = (windows.values.copy() for _ in range(3))
    silent[1, -6:] = np.nan
    wild[1] = 60_000.0
    stuck[1] = windows.values[1, :1]
    for values, defect in ((silent, "stale"), (wild, "implausible"), (np.nan_to_num(stuck, nan=50.0), "stuck")):
        made = forecast_windows(fitted, replace(windows, values=values), Ridge(), guarded=True)
        assert made.defects == {defect: 1}
        assert made.producers["profile"] >= 1
        calm = forecast_windows(fitted, windows, Ridge()).quantiles
        assert made.quantiles[1].max() < 2.0 * calm.max()


def test_the_ridge_beats_profile_and_last_value(city: CitySeries, fitted: FittedCity) -> None:
    windows = cut(city, 150)
    truth = city.values[windows.start_row[:, None] + 12 + np.arange(12)]
    error = {
        f.name: np.nanmean(np.abs(forecast_windows(fitted, windows, f).quantiles[..., 3] - truth))
        for f in (LastValue(), Profile(), Ridge())
    }
    assert error["ridge"] < 0.95 * min(error["profile"], error["last value"])


def test_the_own_network_of_a_city_learns(city: CitySeries, fitted: FittedCity) -> None:
    windows = cut(city, 100)
    truth = city.values[windows.start_row[:, None] + 12 + np.arange(12)]
    trained, new = (train_stid(fitted, steps=steps) for steps in (60, 1))
    error = [
        np.nanmean(np.abs(forecast_windows(fitted, windows, f).quantiles[..., 3] - truth)) for f in (trained, new)
    ]
    assert error[0] < 0.7 * error[1]


def test_the_next_steps_follow_the_series() -> None:
    city = drawn_city(days=5, quantity="speed")
    made, when = forecast_next(city, lambda _: Ridge())
    assert made.quantiles.shape == (1, 12, city.nodes, 7)
    assert when[0] == city.start_s[-1] + city.step_s
    assert made.congested is not None
    assert ((made.congested >= 0) & (made.congested <= 1)).all()
    with pytest.raises(InputError, match="too few"):
        forecast_next(city.part(0, 30, "short"), lambda _: Ridge())


def test_training_windows_are_forecast_by_a_ridge_that_did_not_see_them(fitted: FittedCity) -> None:
    starts = grid_starts(fitted.context, fitted.series.split_starts()[0][:5])
    features = window_features(fitted.context, starts)
    honest, seen = fitted.ridge.predict(features.linear, starts)[0], fitted.ridge.predict(features.linear)[0]
    assert not torch.equal(honest, seen)
