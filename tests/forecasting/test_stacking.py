from __future__ import annotations

import numpy as np
import pytest

from forecasting.stacking import correct

PLACES = 120
SCALE = np.ones(PLACES, np.float32)


def drawn(windows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(windows, 12, PLACES)).astype(np.float32)
    lead, other = (truth + s * rng.normal(size=truth.shape).astype(np.float32) for s in (1.0, 1.0))
    return truth, lead.astype(np.float32), other.astype(np.float32)


def error(forecast: np.ndarray, truth: np.ndarray) -> float:
    return float(np.abs(forecast - truth)[300:].mean())


def test_two_equal_forecasts_are_averaged() -> None:
    truth, lead, other = drawn(600)
    mixed = lead + correct(lead, [other], truth, np.arange(600), SCALE)
    assert error(mixed, truth) == pytest.approx(error((lead + other) / 2, truth), rel=0.02)


def test_a_worse_forecast_does_no_harm() -> None:
    truth, lead, other = drawn(600)
    noise = 5.0 * (other - truth) + lead
    mixed = lead + correct(lead, [noise], truth, np.arange(600), SCALE)
    assert error(mixed, truth) < 1.01 * error(lead, truth)


def test_a_single_place_is_not_corrected_by_chance() -> None:
    """Four simpler forecasts that know nothing more, and one place: a week of hours must not be fitted by heart."""
    rng = np.random.default_rng(1)
    truth = rng.normal(size=(900, 12, 1)).astype(np.float32).cumsum(axis=0) / 30.0
    lead = truth + 0.5 * rng.normal(size=truth.shape).astype(np.float32)
    others = [lead + rng.normal(size=truth.shape).astype(np.float32).cumsum(axis=0) / 20.0 for _ in range(4)]
    mixed = lead + correct(lead, others, truth, np.arange(900), np.ones(1, np.float32))
    assert error(mixed, truth) < 1.005 * error(lead, truth)


def test_a_lead_that_fails_one_day_is_corrected_within_it() -> None:
    truth, lead, other = drawn(600)
    lead[400:] += 4.0
    mixed = lead + correct(lead, [other], truth, np.arange(600), SCALE)
    assert np.abs(mixed - truth)[500:].mean() < 0.4 * np.abs(lead - truth)[500:].mean()


def test_truth_that_was_not_known_yet_changes_nothing() -> None:
    truth, lead, other = drawn(200)
    later = truth.copy()
    later[150 - 12 :] = 99.0
    first = correct(lead, [other], truth, np.arange(200), SCALE)
    second = correct(lead, [other], later, np.arange(200), SCALE)
    np.testing.assert_array_equal(first[:151], second[:151])
    assert not np.array_equal(first[180:], second[180:])
