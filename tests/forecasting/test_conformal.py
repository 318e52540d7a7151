from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecasting.conformal import Record, adapt
from networks.state import QUANTILES

NORMAL = np.array([-1.645, -1.2816, -0.6745, 0.0, 0.6745, 1.2816, 1.645], np.float32)


def record(windows: int, nodes: int, *, spread: float, seed: int = 0, widening: float = 0.0) -> Record:
    rng = np.random.default_rng(seed)
    growth = 1.0 + widening * np.arange(windows) / windows
    truth = (rng.normal(size=(windows, 12, nodes)) * growth[:, None, None]).astype(np.float32)
    quantiles = np.broadcast_to(spread * NORMAL, (windows, 12, nodes, 7)).astype(np.float32)
    state = rng.integers(0, 3, (windows, 12, nodes)).astype(np.int8)
    return Record(quantiles, truth, state, np.arange(windows))


def covered(quantiles: np.ndarray, truth: np.ndarray, low: int, high: int) -> float:
    return float(((truth >= quantiles[..., low]) & (truth <= quantiles[..., high])).mean())


@pytest.mark.parametrize("spread", [0.4, 1.0, 3.0])
def test_bands_come_to_their_promise_from_any_width(spread: float) -> None:
    held = record(700, 20, spread=spread)
    adapted = adapt(held, 300)
    assert covered(adapted, held.truth[300:], 1, 5) == pytest.approx(0.8, abs=0.02)
    assert covered(adapted, held.truth[300:], 0, 6) == pytest.approx(0.9, abs=0.02)


def test_bands_follow_errors_that_grow() -> None:
    held = record(1500, 10, spread=1.0, widening=1.5)
    adapted = adapt(held, 200)
    assert covered(adapted[-500:], held.truth[-500:], 1, 5) == pytest.approx(0.8, abs=0.04)


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.floats(0.05, 20.0))
def test_adapted_quantiles_never_cross_and_keep_the_median(seed: int, spread: float) -> None:
    held = record(90, 12, spread=spread, seed=seed)
    adapted = adapt(held, 60)
    assert (np.diff(adapted, axis=-1) >= 0).all()
    np.testing.assert_array_equal(adapted[..., QUANTILES.index(0.5)], held.quantiles[60:, ..., 3])


def test_truth_that_was_not_known_yet_changes_nothing() -> None:
    held = record(400, 8, spread=0.5)
    later = held.truth.copy()
    later[350 - 12 :] = 50.0  # none of it had been measured when window 350 began
    other = Record(held.quantiles, later, held.state, held.start_row)
    np.testing.assert_array_equal(adapt(held, 300)[:50], adapt(other, 300)[:50])
