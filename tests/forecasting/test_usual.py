from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from forecasting.city_context import fit_context
from forecasting.grid import Grid
from forecasting.series import CitySeries
from forecasting.usual import fit_usual
from tests.forecasting.cities import PER_DAY, drawn_city


def fitted(values: np.ndarray, training: int):  # type: ignore[no-untyped-def]
    city = drawn_city(days=len(values) // PER_DAY, nodes=values.shape[1])
    return fit_usual(values.astype(np.float32), Grid.of(city.start_s, city.step_s), training)


def test_a_city_that_repeats_itself_is_known_exactly() -> None:
    day = 50.0 + 40.0 * np.sin(np.linspace(0, 2 * np.pi, PER_DAY, endpoint=False))
    values = np.tile(day, 6)[:, None] * np.array([1.0, 3.0])
    usual = fitted(values, 4 * PER_DAY)
    np.testing.assert_allclose(usual.value, values, rtol=0.02)
    assert usual.reliability > 0.99


def test_noise_without_a_pattern_has_no_profile() -> None:
    values = np.random.default_rng(1).normal(100.0, 10.0, (4 * PER_DAY, 3))
    usual = fitted(values, 3 * PER_DAY)
    assert usual.reliability < 0.05
    np.testing.assert_allclose(usual.value, 100.0, atol=4.0)  # faded to the mean: days of noise would differ by 7


@settings(max_examples=12)
@given(st.integers(0, 4 * PER_DAY - 1))
def test_a_row_of_the_training_part_never_sees_its_own_day(row: int) -> None:
    """Within rounding: the weights and the mean are fitted on all rows, the profile of a row on other days."""
    city = drawn_city(days=5, nodes=2, missing=0.0)
    changed = city.values.copy()
    changed[row] *= 1.5
    base, after = (fitted(v, 5 * PER_DAY) for v in (city.values, changed))
    others = np.abs(after.value - base.value).max(axis=1)
    near = slice(max(0, row - 3), row + 4)
    assert others[near].max() < 0.02 * np.abs(city.values).mean() + 0.1 * others.max()


@settings(max_examples=12)
@given(st.integers(3 * PER_DAY, 5 * PER_DAY - 1))
def test_nothing_younger_than_a_day_is_seen_after_training(row: int) -> None:
    city = drawn_city(days=5, nodes=2)
    changed = city.values.copy()
    changed[row:] = 9999.0
    base, after = (fitted(v, 3 * PER_DAY) for v in (city.values, changed))
    same = slice(0, min(row + PER_DAY - 24, len(changed)))
    np.testing.assert_array_equal(base.value[same], after.value[same])
    np.testing.assert_array_equal(base.causal[same], after.causal[same])
    np.testing.assert_array_equal(base.other[same], after.other[same])
    np.testing.assert_array_equal(base.support[same], after.support[same])


def test_a_place_that_never_reported_is_no_trouble() -> None:
    city = drawn_city(days=4, nodes=4)
    city.values[:, 2] = np.nan
    context = fit_context(city)
    for array in (context.usual, context.scale, context.mean, context.statistics, context.deviation):
        assert np.isfinite(array.numpy()).all()
    assert (context.scale > 0).all()


def test_every_place_listens_to_those_alike() -> None:
    rng = np.random.default_rng(3)
    city = drawn_city(days=6, nodes=6, noise=0.0, missing=0.0)
    shared = np.cumsum(rng.normal(size=(len(city.values), 2)), axis=0)
    shared -= shared.mean(axis=0)
    city.values[:] = 500.0 + shared[:, [0, 0, 0, 1, 1, 1]] + rng.normal(size=city.values.shape)
    alike = fit_context(city).graphs[-1].to_dense().numpy()
    same = alike[:3, :3].sum() + alike[3:, 3:].sum()
    assert same > 0.8 * alike.sum()
    assert alike.sum(axis=1) == pytest.approx(1.0)


def restless_mornings() -> CitySeries:
    """Days that differ from each other in the morning alone."""
    city = drawn_city(days=8, nodes=3, missing=0.0)
    rng = np.random.default_rng(4)
    hour = np.arange(len(city.values)) % PER_DAY * 24 / PER_DAY
    spread = np.where((hour >= 6) & (hour < 10), 30.0, 3.0)
    city.values[:] = 200.0 + spread[:, None] * rng.normal(size=city.values.shape)
    return city


def test_a_place_is_restless_at_the_hours_at_which_its_days_differ() -> None:
    context = fit_context(restless_mornings(), 6 * PER_DAY)
    unrest = context.unrest[6 * PER_DAY : 7 * PER_DAY].mean(dim=1).numpy()
    hour = np.arange(PER_DAY) * 24 / PER_DAY
    assert unrest[(hour >= 7) & (hour < 9)].min() > 0.5
    assert unrest[(hour >= 14) & (hour < 22)].max() < -0.5


def test_no_row_tells_of_its_own_unrest() -> None:
    city = restless_mornings()
    base = fit_context(city, 8 * PER_DAY).unrest
    wild = slice(3 * PER_DAY + 100, 3 * PER_DAY + 112)
    city.values[wild] += 40.0 * np.random.default_rng(5).normal(size=(12, 3)).astype(np.float32)
    after = fit_context(city, 8 * PER_DAY).unrest
    moved = (after - base)[:, :].mean(dim=1)
    assert moved[4 * PER_DAY + 106] > 0.3  # another day, at the same time
    assert abs(float(moved[3 * PER_DAY + 106])) < 0.1


def test_a_place_reaches_from_its_slow_to_its_fast_tenth() -> None:
    city = drawn_city(days=6, nodes=3, missing=0.0)
    city.values[:] = np.where(np.arange(len(city.values)) % 5 == 0, 20.0, 100.0)[:, None]
    city.values[:, 1] = np.nan  # says nothing: no reach
    reach = fit_context(city, 4 * PER_DAY).reach
    np.testing.assert_allclose(reach[:, [0, 2]].numpy(), [[20.0, 20.0], [100.0, 100.0]])
    assert reach[0, 1] == reach[1, 1]
    assert torch.isfinite(reach).all()


def test_walks_on_a_ring_come_back_as_they_must() -> None:
    """On a ring of places joined both ways a walk of two steps is back with a half, one of four with 3/8."""
    nodes = 24
    city = drawn_city(days=4, nodes=nodes)
    ends = np.stack([np.arange(nodes), (np.arange(nodes) + 1) % nodes])
    ring = replace(city, edges=ends, edge_length_m=np.full(nodes, 100.0, np.float32))
    returns = fit_context(ring).structure[:, :3].numpy()
    np.testing.assert_allclose(returns, np.tile([1 / 2, 3 / 8, 70 / 256], (nodes, 1)), rtol=1e-5)
