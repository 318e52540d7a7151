from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from forecasting.calibration import Calibrator
from forecasting.congestion import congestion_probabilities, cumulative
from forecasting.serve import Forecaster
from networks.graph import Floats
from networks.state import QUANTILES, History, TimeGrid

EDGES = 40
FREE = np.full(EDGES, 14.0)
START = 8 * 3600.0


def day_shape(at_s: Floats) -> Floats:
    """A morning's flow (T, E), 0.1 to 0.4 veh/s."""
    wave = 0.25 + 0.15 * np.sin(at_s / 3600.0)
    return wave[:, None] * np.linspace(0.7, 1.3, EDGES)


def profile() -> History:
    at = START - 3600.0 + np.arange(60) * 300.0
    flow = day_shape(at + 150.0)
    return History(TimeGrid(at[0], 300.0, 60), flow, np.full(flow.shape, 10.0), np.ones(flow.shape, np.bool_))


def lived(minutes: int, *, level: float, rng: np.random.Generator, noise: float = 0.02) -> History:
    """What the street did: the profile times a level, with noise a minute and an edge."""
    at = START + np.arange(minutes) * 60.0
    flow = np.maximum(level * day_shape(at + 30.0) + rng.normal(0, noise, (minutes, EDGES)), 0.0)
    speed = np.clip(9.0 + rng.normal(0, 1.0, flow.shape), 0.0, None)
    return History(TimeGrid(START, 60.0, minutes), flow, speed, np.ones(flow.shape, np.bool_))


def cut(history: History, steps: int) -> History:
    grid = TimeGrid(history.grid.start_s, history.grid.step_s, steps)
    return History(grid, history.flow_vps[:steps], history.speed_mps[:steps], history.valid[:steps])


def run(forecaster: Forecaster, history: History) -> None:
    for steps in range(1, history.grid.count + 1):
        forecaster.predict(cut(history, steps), START + 60.0 * steps)


def test_the_chain_falls_from_deviation_to_profile_to_persistence_to_none() -> None:
    rng = np.random.default_rng(1)
    seen = lived(10, level=1.0, rng=rng)
    silent = History(seen.grid, seen.flow_vps, seen.speed_mps, np.zeros_like(seen.valid))
    now = START + 600.0
    assert Forecaster(profile(), FREE).predict(seen, now).producer == ("profile+deviation",)
    assert Forecaster(profile(), FREE).predict(silent, now).producer == ("profile",)
    assert Forecaster(None, FREE).predict(seen, now).producer == ("persistence",)
    nothing = Forecaster(None, FREE).predict(silent, now)
    assert nothing.producer == ("none",)
    assert not nothing.valid.any()
    half = seen.valid.copy()
    half[:, ::2] = False
    mixed = Forecaster(profile(), FREE).predict(History(seen.grid, seen.flow_vps, seen.speed_mps, half), now)
    assert mixed.producer == ("profile+deviation", "profile")
    assert mixed.valid.all()


def test_an_empty_history_is_no_error() -> None:
    none_yet = History(TimeGrid(START, 60.0, 0), *(np.zeros((0, EDGES)),) * 2, np.zeros((0, EDGES), np.bool_))
    assert Forecaster(profile(), FREE).predict(none_yet, START).producer == ("profile",)


def test_a_lasting_deviation_is_learnt_and_beats_the_bare_profile() -> None:
    forecaster = Forecaster(profile(), FREE)
    run(forecaster, lived(110, level=1.4, rng=np.random.default_rng(2)))
    score = forecaster.score()
    by = score.flow_mae_by_producer_vps
    assert (
        by["profile+deviation"][:6] < 0.5 * by["profile"][:6]
    ).all()  # the first half hour has been learnt longest
    assert (by["profile+deviation"] < by["profile"]).all()
    assert (score.flow_mae_vps <= by["profile"]).all()
    assert np.isfinite(score.speed_mae_mps).all()


def test_coverage_comes_to_the_promise() -> None:
    forecaster = Forecaster(profile(), FREE)
    history = lived(240, level=1.1, rng=np.random.default_rng(5))
    run(forecaster, cut(history, 120))
    before = forecaster.score().flow_coverage
    run(forecaster, history)
    after = forecaster.score().flow_coverage
    band = after.nominal.index(pytest.approx(0.8))
    recent = (after.measured * after.count[:, None] - before.measured * before.count[:, None])[:6, band] / (
        after.count - before.count
    )[:6]
    assert np.abs(recent - 0.8).max() < 0.08
    early = Forecaster(profile(), FREE)
    run(early, cut(history, 9))  # the default spread errs on the wide side
    assert early.score().flow_coverage.measured[0, band] > 0.8


def test_a_useless_profile_loses_the_lead() -> None:
    flat = profile()
    rng = np.random.default_rng(7)
    nonsense = History(flat.grid, rng.uniform(0.0, 1.0, flat.flow_vps.shape), flat.speed_mps, flat.valid)
    forecaster = Forecaster(nonsense, FREE)
    run(forecaster, lived(90, level=1.0, rng=rng))
    assert set(forecaster.score().flow_lead[:6]) == {"persistence"}
    assert "persistence" in forecaster.predict(lived(90, level=1.0, rng=rng), START + 5400.0).producer


floats = st.floats(-1e3, 1e3) | st.just(0.0)


@settings(max_examples=40)
@given(
    arrays(np.float64, (7, 5), elements=st.floats(0, 2)),
    arrays(np.float64, (7, 5), elements=st.floats(0, 40)),
    arrays(np.bool_, (7, 5)),
    st.booleans(),
)
def test_forecasts_are_finite_ordered_and_possible(flow: Floats, speed: Floats, valid: Floats, known: bool) -> None:
    past = History(TimeGrid(START, 60.0, 7), flow, speed, valid.astype(np.bool_))
    free = np.linspace(0.0, 30.0, 5)
    forecast = Forecaster(past if known else None, free).predict(past, START + 420.0)
    for array in (forecast.flow_vps, forecast.speed_mps, forecast.congestion):
        assert np.isfinite(array).all()
        assert (array >= -1e-9).all()
    assert (np.diff(forecast.flow_vps, axis=-1) >= 0).all()
    assert (np.diff(forecast.speed_mps, axis=-1) >= 0).all()
    np.testing.assert_allclose(forecast.congestion.sum(axis=-1), 1.0, atol=1e-9)


@settings(max_examples=30)
@given(st.lists(arrays(np.float64, 50, elements=floats), min_size=1, max_size=30))
def test_calibrated_quantiles_never_cross(batches: list[Floats]) -> None:
    calibrator = Calibrator(2, QUANTILES, default_spread=np.ones(1))
    for residual in batches:
        calibrator.update(0, (np.arange(50) % 2).astype(np.int8), residual, calibrator.table[0])
        assert (np.diff(calibrator.table, axis=-1) >= 0).all()


def test_congestion_follows_the_speed_ratio() -> None:
    ratios = np.array([0.95, 0.6, 0.4, 0.1])
    narrow = ratios[:, None] * 20.0 + np.linspace(-0.1, 0.1, len(QUANTILES))
    states = congestion_probabilities(narrow[None], QUANTILES, np.full(4, 20.0))[0]
    assert states.argmax(axis=1).tolist() == [0, 1, 2, 3]
    uniform = np.array(QUANTILES)[None] * 10.0
    assert cumulative(uniform, QUANTILES, np.array([5.0]))[0] == pytest.approx(0.5)
    assert cumulative(uniform, QUANTILES, np.array([2.5]))[0] == pytest.approx(0.25)
