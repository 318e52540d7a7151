"""The forecaster of the loop: its chain of fallbacks, the gate, drift, broken feeds, bands, and what is announced."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from forecasting.calibration import Bands
from forecasting.congestion import congestion_probabilities, cumulative
from forecasting.features import WindowFeatures
from forecasting.forecasters import FittedCity, Ridge
from forecasting.gate import Verdict
from forecasting.live_city import ExpectedChange, LiveCity, fit_live_city
from forecasting.live_gate import LiveModel, admit
from forecasting.producers import SIMPLE
from forecasting.serve import Forecaster
from forecasting.street_graph import Links
from networks.graph import Floats
from networks.state import QUANTILES, History, TimeGrid

EDGES = 40
FREE = np.full(EDGES, 14.0)
DAY = 86400.0
START = 4 * DAY + 8 * 3600.0  # a Monday, 08:00
LINE = Links(np.stack([np.arange(EDGES - 1), np.arange(1, EDGES)]).astype(np.int32), np.full(EDGES - 1, 200.0, "f4"))
PASSES = Verdict({}, {}, 20, ())


def usual_flow(at_s: Floats) -> Floats:
    """A morning's flow (T, E), veh/s, the same every day."""
    wave = 0.25 + 0.1 * np.sin((at_s % DAY) / 1800.0)
    return wave[:, None] * np.linspace(0.7, 1.3, EDGES)


def a_day(begin_s: float, minutes: int, *, step_s: float, level: float, rng: np.random.Generator) -> History:
    """What the street does: the usual times a level, counts of a minute; nobody sees edges 0 to 2."""
    count = int(minutes * 60 / step_s)
    at = begin_s + np.arange(count) * step_s
    flow = rng.poisson(level * usual_flow(at + step_s / 2) * step_s) / step_s
    speed = np.clip(9.0 + rng.normal(0, 1.0, flow.shape), 0.5, None)
    valid = np.ones(flow.shape, np.bool_)
    valid[:, :3] = False
    return History(TimeGrid(begin_s, step_s, count), flow, speed, valid)


def past_days(days: int = 6) -> list[History]:
    rng = np.random.default_rng(8)
    return [
        a_day(START - k * DAY, 240, step_s=300.0, level=float(rng.uniform(0.85, 1.15)), rng=rng)
        for k in range(days, 0, -1)
    ]


@pytest.fixture(scope="module")
def past() -> tuple[LiveCity, ...]:
    return tuple(fit_live_city(past_days(), quantity, LINE, from_s=START) for quantity in ("flow", "speed"))


@pytest.fixture(scope="module")
def lived() -> History:
    return a_day(START, 110, step_s=60.0, level=1.3, rng=np.random.default_rng(2))


def cut(history: History, steps: int) -> History:
    grid = TimeGrid(history.grid.start_s, history.grid.step_s, steps)
    return History(grid, history.flow_vps[:steps], history.speed_mps[:steps], history.valid[:steps])


def run(forecaster: Forecaster, history: History, first: int = 2) -> None:
    for steps in range(first, history.grid.count + 1, 2):
        forecaster.predict(cut(history, steps), START + 60.0 * steps)


class Shift:
    """A model that is always off the ridge by so many scales."""

    name = "shift"

    def __init__(self, scales: float) -> None:
        self.scales = scales

    def quantiles(self, city: FittedCity, features: WindowFeatures, starts: torch.Tensor) -> torch.Tensor:
        return Ridge().quantiles(city, features, starts) + self.scales


def model(scales: float, *, shadow: bool = False, name: str = "m") -> LiveModel:
    return LiveModel(name, Shift(scales), {"flow": PASSES, "speed": PASSES}, shadow)


def test_each_forecast_names_its_producer_down_the_chain(past: tuple[LiveCity, ...], lived: History) -> None:
    seen, now = cut(lived, 30), START + 1800.0
    silent = History(seen.grid, seen.flow_vps, seen.speed_mps, np.zeros_like(seen.valid))
    informed = SIMPLE  # on these past days the last value is nearly as good five minutes ahead
    assert Forecaster(FREE, past, [model(0.0)]).predict(seen, now).producer == ("model m", *informed, "none")
    assert Forecaster(FREE, past).predict(seen, now).producer == (*informed, "none")
    assert Forecaster(FREE).predict(seen, now).producer == ("persistence", "none")
    nothing = Forecaster(FREE).predict(silent, now)
    assert nothing.producer == ("none",)
    assert not nothing.valid.any()
    made = Forecaster(FREE, past).predict(seen, now)
    assert made.valid.tolist() == [False] * 3 + [True] * (EDGES - 3), "edges without a past have no forecast"


def test_what_is_no_reading_may_hold_anything(past: tuple[LiveCity, ...], lived: History) -> None:
    seen, now = cut(lived, 30), START + 1800.0
    valid = seen.valid & (np.arange(EDGES) % 3 > 0)
    made = [
        Forecaster(FREE, past).predict(
            History(seen.grid, *(np.where(valid, v, filler) for v in (seen.flow_vps, seen.speed_mps)), valid), now
        )
        for filler in (0.0, np.nan)
    ]
    np.testing.assert_array_equal(made[0].flow_vps, made[1].flow_vps)
    np.testing.assert_array_equal(made[0].speed_mps, made[1].speed_mps)


def test_readings_of_a_time_of_day_that_the_past_never_saw_are_no_deviation(past: tuple[LiveCity, ...]) -> None:
    """Two minutes into the recorded hours most of the last five minutes lie before them."""
    profile = [city.window(START + 120.0, np.full((12, EDGES), np.nan)).expected()[12:] for city in past]
    for level in (0.1, 3.0):
        early = a_day(START, 2, step_s=60.0, level=level, rng=np.random.default_rng(3))
        forecaster = Forecaster(FREE, past)
        forecaster.predict(early, START + 120.0)
        said = forecaster.said()["profile+deviation"]
        np.testing.assert_allclose(said[0, :, 3:], profile[0][:, 3:] / 3600.0)
        np.testing.assert_allclose(said[1, :, 3:], profile[1][:, 3:])
    later = a_day(START, 20, step_s=60.0, level=3.0, rng=np.random.default_rng(3))
    forecaster.predict(later, START + 1200.0)
    deviating = forecaster.said()
    assert (deviating["profile+deviation"][0, 0, 3:] > 1.5 * deviating["profile"][0, 0, 3:]).mean() > 0.9


def test_a_day_unlike_the_past_is_followed_before_any_forecast_has_come_true(past: tuple[LiveCity, ...]) -> None:
    """A fifth faster everywhere, as under better signals; a day like the others is left to those who know it."""
    usual = a_day(START, 10, step_s=60.0, level=1.0, rng=np.random.default_rng(3))
    fast = History(usual.grid, usual.flow_vps, usual.speed_mps + 4.0, usual.valid)
    for history, expected in ((usual, 9.0), (fast, 13.0)):
        forecaster = Forecaster(FREE, past)
        for steps in range(5, 10):
            made = forecaster.predict(cut(history, steps), START + 60.0 * steps)
        assert not forecaster.score().truths.any()
        assert np.abs(made.speed_mps[:, 3:, 3].mean(axis=1) - expected).max() < 0.6


def test_past_days_that_are_copies_of_each_other_leave_a_forecast() -> None:
    same = a_day(START - DAY, 240, step_s=300.0, level=1.0, rng=np.random.default_rng(1))
    days = [
        History(TimeGrid(START - k * DAY, 300.0, 48), same.flow_vps, same.speed_mps, same.valid) for k in (3, 2, 1)
    ]
    copies = tuple(fit_live_city(days, quantity, LINE, from_s=START) for quantity in ("flow", "speed"))
    today = a_day(START, 20, step_s=60.0, level=1.0, rng=np.random.default_rng(2))
    forecaster = Forecaster(FREE, copies)
    for steps in range(5, 21):
        made = forecaster.predict(cut(today, steps), START + 60.0 * steps)
        assert np.isfinite(made.flow_vps).all()
        assert np.isfinite(made.speed_mps).all()


def test_a_street_that_somebody_closed_is_forecast_closed(past: tuple[LiveCity, ...]) -> None:
    """Nobody announced it; five minutes of readings say it. Other streets are left alone."""
    day = a_day(START, 40, step_s=60.0, level=1.0, rng=np.random.default_rng(5))
    flow = day.flow_vps.copy()
    flow[20:, 30] = 0.0
    closed = History(day.grid, flow, day.speed_mps, day.valid)
    ahead = []
    for history in (day, closed):
        forecaster = Forecaster(FREE, past)
        run(forecaster, cut(history, 30))
        ahead.append(forecaster.predict(cut(history, 30), START + 1800.0).flow_vps[..., 3])
    assert ahead[1][0, 30] < 0.5 * ahead[0][0, 30]
    assert (np.diff(ahead[1][:, 30]) > 0).all(), "nobody knows for how long"
    others = np.delete(np.arange(3, EDGES), 30 - 3)
    np.testing.assert_allclose(ahead[1][0, others], ahead[0][0, others], rtol=0.15)


def test_an_empty_history_is_no_error(past: tuple[LiveCity, ...]) -> None:
    none_yet = History(TimeGrid(START, 60.0, 0), *(np.zeros((0, EDGES)),) * 2, np.zeros((0, EDGES), np.bool_))
    made = Forecaster(FREE, past).predict(none_yet, START)
    expected = usual_flow(np.array([START + 1650.0]))[0, 3:]
    assert np.abs(made.flow_vps[5, 3:, 3] / expected - 1.0).mean() < 0.15


def test_where_no_past_is_known_the_last_value_is_served(past: tuple[LiveCity, ...], lived: History) -> None:
    """And every producer is compared as having said it."""
    seen = cut(lived, 30)
    everywhere = History(seen.grid, seen.flow_vps, seen.speed_mps, np.ones_like(seen.valid))
    forecaster = Forecaster(FREE, past, [model(0.0)])
    made = forecaster.predict(everywhere, START + 1800.0)
    last = seen.flow_vps[-5:, :3].mean(axis=0)
    assert made.valid.all()
    np.testing.assert_allclose(made.flow_vps[:, :3, 3], np.broadcast_to(last, (12, 3)))
    for said in forecaster.said().values():
        np.testing.assert_allclose(said[0, :, :3], np.broadcast_to(last, (12, 3)))


def test_the_gate_refuses_a_model_that_is_worse_than_the_profile(past: tuple[LiveCity, ...]) -> None:
    """It is scored in the shadow of the ridge, and says why."""
    refused = admit(past, "bad", Shift(2.5))
    assert not refused.verdicts["flow"].passes
    assert any("not below that of the profile" in reason for reason in refused.verdicts["flow"].reasons)
    forecaster = Forecaster(FREE, past, [refused])
    made = forecaster.predict(a_day(START, 30, step_s=60.0, level=1.0, rng=np.random.default_rng(1)), START + 1800.0)
    assert "model bad" not in made.producer
    assert any(note.startswith("model bad waits in the shadow for flow") for note in forecaster.take_notes())


@pytest.mark.parametrize(("ridge", "leads"), [(0.9, "ridge"), (1.1, "profile")])
def test_the_chain_begins_where_the_held_out_days_say(past: tuple[LiveCity, ...], ridge: float, leads: str) -> None:
    verdict = Verdict({"model": 1.2, "ridge": ridge, "profile": 1.0}, {}, 20, ("worse than the profile",))
    refused = LiveModel("m", Shift(0.0), {"flow": verdict, "speed": verdict})
    score = Forecaster(FREE, past, [refused]).score()
    assert set(score.flow_lead) == set(score.speed_lead) == {leads}


def test_too_few_past_days_let_no_model_in() -> None:
    short = tuple(fit_live_city(past_days(3), quantity, LINE, from_s=START) for quantity in ("flow", "speed"))
    assert "3 past days are too few" in admit(short, "m", Shift(0.0)).verdicts["flow"].reasons[0]


def test_a_model_that_drifts_loses_the_lead_and_comes_back(past: tuple[LiveCity, ...]) -> None:
    """It is as good as the profile, then for half an hour far off, then good again."""
    drifting = Shift(0.0)
    forecaster = Forecaster(FREE, past, [LiveModel("m", drifting, {"flow": PASSES, "speed": PASSES})])
    day = a_day(START, 240, step_s=60.0, level=1.0, rng=np.random.default_rng(4))
    leads, notes = [], []
    for steps in range(2, 240, 2):
        drifting.scales = 4.0 if 40 <= steps < 80 else 0.0
        forecaster.predict(cut(day, steps), START + 60.0 * steps)
        leads.append(forecaster.score().flow_lead[0])
        notes += forecaster.take_notes()
    assert leads[15] == "model m"
    assert leads[42] != "model m", "its errors five minutes ahead are known by then"
    assert leads[-1] == "model m"
    assert any(note.endswith("of model m") for note in notes)
    assert len(notes) < 12, "an operator reads them"


def test_who_errs_to_opposite_sides_is_better_together(past: tuple[LiveCity, ...]) -> None:
    """Two models, as far off to one side as to the other: what is served errs less than either."""
    pair = [model(1.0, name="high"), model(-1.0, name="low")]
    forecaster = Forecaster(FREE, past, pair)
    run(forecaster, a_day(START, 110, step_s=60.0, level=1.0, rng=np.random.default_rng(6)))
    score = forecaster.score()
    for served, by in (
        (score.flow_mae_vps, score.flow_mae_by_producer_vps),
        (score.speed_mae_mps, score.speed_mae_by_producer_mps),
    ):
        assert (served < 0.8 * by["model high"]).all()
        assert (served < 0.8 * by["model low"]).all()


def test_what_is_served_follows_the_best(past: tuple[LiveCity, ...]) -> None:
    """A model three scales off counts for nothing after an hour of the street."""
    forecaster = Forecaster(FREE, past, [model(3.0)])
    day = a_day(START, 180, step_s=60.0, level=1.0, rng=np.random.default_rng(7))
    run(forecaster, day)
    made, said = forecaster.predict(day, START + 180 * 60.0), forecaster.said()
    best = np.abs(said["profile"][0, :6, 3:] - made.flow_vps[:6, 3:, 3]).mean()
    assert best < 0.05 * np.abs(said["model m"][0, :6, 3:] - said["profile"][0, :6, 3:]).mean()


def test_a_candidate_is_scored_on_the_same_readings_and_never_served(
    past: tuple[LiveCity, ...], lived: History
) -> None:
    pair = Forecaster(FREE, past, [model(0.0), model(1.5, shadow=True, name="new")])
    alone = Forecaster(FREE, past, [model(0.0)])
    for steps in range(2, 40, 2):
        now = START + 60.0 * steps
        made, same = pair.predict(cut(lived, steps), now), alone.predict(cut(lived, steps), now)
        np.testing.assert_array_equal(made.flow_vps, same.flow_vps)
        assert not any("candidate" in name for name in made.producer)
    errors = pair.score().flow_mae_by_producer_vps
    assert set(errors) == {"model m", "candidate new", *SIMPLE}
    assert errors["candidate new"][0] > errors["model m"][0]


@pytest.mark.parametrize("fault", ["stale", "stuck", "implausible", "silenced"])
def test_a_broken_feed_is_answered_by_the_profile_and_teaches_nothing(
    past: tuple[LiveCity, ...], lived: History, fault: str
) -> None:
    """Forty honest minutes, forty broken ones, then honest again."""
    flow, speed, valid = lived.flow_vps.copy(), lived.speed_mps.copy(), lived.valid.copy()
    broken = slice(40, 80)
    if fault == "stale":
        valid[broken] = False
    elif fault == "stuck":
        flow[broken], speed[broken] = flow[39], speed[39]
    elif fault == "implausible":
        flow[broken] *= 50.0
    else:
        flow[broken] = 0.0
    forecaster = Forecaster(FREE, past, [model(0.0)])
    told, told_before, made = [], [], {}
    for steps in range(2, 111, 2):
        made[steps] = forecaster.predict(cut(History(lived.grid, flow, speed, valid), steps), START + 60.0 * steps)
        told += forecaster.take_notes()
        told_before = told.copy() if steps == 40 else told_before
    assert not any(note.startswith("feed") for note in told_before)
    if fault != "stuck":  # an hour of one value is needed to tell a stuck feed from a quiet one
        assert made[60].producer == ("profile", "none")
        assert f"feed {fault}: forecasts fall back to the profile" in told
        assert "feed believed again" in told
    assert made[110].producer[0] in ("model m", "ridge", "profile+deviation")
    usual = usual_flow(np.array([START + 6600.0 + 150.0]))[0, 3:]
    off = made[110].flow_vps[0, 3:, 3] / usual
    assert 0.8 < np.median(off) < 1.5


def test_a_lasting_deviation_is_learnt_and_beats_the_bare_profile(past: tuple[LiveCity, ...], lived: History) -> None:
    forecaster = Forecaster(FREE, past)
    run(forecaster, lived)
    score = forecaster.score()
    by = score.flow_mae_by_producer_vps
    assert (by["profile+deviation"][:6] < by["profile"][:6]).all()
    assert (score.flow_mae_vps[:6] < by["profile"][:6]).all()
    assert np.isfinite(score.speed_mae_mps).all()


def test_coverage_comes_to_the_promise(past: tuple[LiveCity, ...]) -> None:
    forecaster = Forecaster(FREE, past)
    day = a_day(START, 240, step_s=60.0, level=1.1, rng=np.random.default_rng(5))
    run(forecaster, cut(day, 120))
    before = forecaster.score().flow_coverage
    run(forecaster, day, first=122)
    after = forecaster.score().flow_coverage
    band = after.nominal.index(pytest.approx(0.8))
    recent = (after.measured * after.count[:, None] - before.measured * before.count[:, None])[:6, band] / (
        after.count - before.count
    )[:6]
    assert np.abs(recent - 0.8).max() < 0.1
    early = Forecaster(FREE, past)
    run(early, cut(day, 9))  # what is assumed errs on the wide side
    assert early.score().flow_coverage.measured[0, band] > 0.8


def test_what_is_announced_moves_the_forecast_of_its_hours_alone(past: tuple[LiveCity, ...], lived: History) -> None:
    now = START + 1800.0
    grid = TimeGrid(START + 3600.0, 300.0, 6)  # from half an hour ahead, for half an hour
    closed = np.zeros((6, EDGES))
    closed[:, 10] = -usual_flow(grid.start_s + np.arange(6) * 300.0 + 150.0)[:, 10]
    slower = np.zeros((6, EDGES))
    slower[:, 20] = -4.0
    forecaster = Forecaster(FREE, past, [model(0.0)])
    plain = Forecaster(FREE, past, [model(0.0)]).predict(cut(lived, 30), now)
    made = forecaster.predict(cut(lived, 30), now, ExpectedChange(grid, closed, slower))
    np.testing.assert_allclose(made.flow_vps[:6], plain.flow_vps[:6])
    assert (made.flow_vps[7:, 10, 3] < 0.15 * plain.flow_vps[7:, 10, 3]).all()
    off = made.speed_mps[7:, 20, 3] - plain.speed_mps[7:, 20, 3]
    assert (np.abs(off + 4.0) < 0.5).all()
    np.testing.assert_allclose(made.flow_vps[:, 11], plain.flow_vps[:, 11])


def test_between_the_steps_of_the_past_the_usual_is_between_them(past: tuple[LiveCity, ...]) -> None:
    nothing = np.full((12, EDGES), np.nan)
    at = [past[0].window(START + s, nothing).usual[12] for s in (0.0, 150.0, 300.0, DAY)]
    np.testing.assert_allclose(at[1], (at[0] + at[2]) / 2, rtol=1e-4)
    np.testing.assert_allclose(at[3], at[0], rtol=1e-5, err_msg="the day that was prepared repeats")


@settings(max_examples=25)
@given(
    arrays(np.float64, (7, EDGES), elements=st.floats(0, 2)),
    arrays(np.float64, (7, EDGES), elements=st.floats(0, 40)),
    arrays(np.bool_, (7, EDGES)),
    st.booleans(),
)
def test_forecasts_are_finite_ordered_and_possible(
    past: tuple[LiveCity, ...], flow: Floats, speed: Floats, valid: Floats, known: bool
) -> None:
    history = History(TimeGrid(START, 60.0, 7), flow, speed, valid.astype(np.bool_))
    free = np.linspace(0.0, 30.0, EDGES)
    forecast = Forecaster(free, past if known else ()).predict(history, START + 420.0)
    for array in (forecast.flow_vps, forecast.speed_mps, forecast.congestion):
        assert np.isfinite(array).all()
        assert (array >= -1e-9).all()
    assert (np.diff(forecast.flow_vps, axis=-1) >= 0).all()
    assert (np.diff(forecast.speed_mps, axis=-1) >= 0).all()
    np.testing.assert_allclose(forecast.congestion.sum(axis=-1), 1.0, atol=1e-9)


floats = st.floats(-1e3, 1e3) | st.just(0.0)


@settings(max_examples=30)
@given(st.lists(arrays(np.float64, 250, elements=floats), min_size=1, max_size=8))
def test_calibrated_quantiles_never_cross(batches: list[Floats]) -> None:
    bands = Bands(1)
    made = np.broadcast_to(np.linspace(-1.0, 1.0, len(QUANTILES)), (1, 250, len(QUANTILES)))
    state = (np.arange(250) % 3).astype(np.int8)
    for truth in batches:
        sent = bands.stretch(made, state[None])
        assert (np.diff(sent, axis=-1) >= 0).all()
        bands.learn(0, made[0], sent[0], state, truth)


def test_a_longer_horizon_takes_the_stretch_of_the_nearest_that_has_learnt() -> None:
    """Before any truth the assumed one holds; truths of ten minutes ahead then speak for fifteen, not for five."""
    bands, rng = Bands(3, assumed=1.5), np.random.default_rng(0)
    made = np.broadcast_to(np.linspace(-1.0, 1.0, len(QUANTILES)), (3, 400, len(QUANTILES)))
    state = np.zeros((3, 400), np.int8)
    np.testing.assert_allclose(bands.stretch(made, state), 1.5 * made)
    for _ in range(5):
        bands.learn(1, made[1], 1.5 * made[1], state[1], rng.normal(0.0, 3.0, 400))
    sent = bands.stretch(made, state)
    np.testing.assert_allclose(sent[0], 1.5 * made[0])
    np.testing.assert_allclose(sent[2], sent[1])
    assert sent[1, 0, -1] == pytest.approx(1.645 * 3.0, rel=0.15)


def test_the_first_truths_lead_from_the_assumed_stretch_to_the_learnt_one() -> None:
    bands, rng = Bands(1, assumed=1.5), np.random.default_rng(0)
    made = np.broadcast_to(np.linspace(-1.0, 1.0, len(QUANTILES)), (1, 400, len(QUANTILES)))
    state = np.zeros((1, 400), np.int8)
    widths = [float(bands.stretch(made, state)[0, 0, -1])]
    for _ in range(5):
        bands.learn(0, made[0], bands.stretch(made, state)[0], state[0], rng.normal(0.0, 0.3, 400))
        widths.append(float(bands.stretch(made, state)[0, 0, -1]))
    assert widths[0] == 1.5
    assert (np.diff(widths) < 0.05).all()
    assert widths[1] < 1.45
    assert widths[-1] == pytest.approx(1.645 * 0.3, rel=0.15)


def test_congestion_follows_the_speed_ratio() -> None:
    ratios = np.array([0.95, 0.6, 0.4, 0.1])
    narrow = ratios[:, None] * 20.0 + np.linspace(-0.1, 0.1, len(QUANTILES))
    states = congestion_probabilities(narrow[None], QUANTILES, np.full(4, 20.0))[0]
    assert states.argmax(axis=1).tolist() == [0, 1, 2, 3]
    uniform = np.array(QUANTILES)[None] * 10.0
    assert cumulative(uniform, QUANTILES, np.array([5.0]))[0] == pytest.approx(0.5)
    assert cumulative(uniform, QUANTILES, np.array([2.5]))[0] == pytest.approx(0.25)
