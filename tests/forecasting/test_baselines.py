from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from forecasting.backtest import Series, backtest, contiguous_starts
from forecasting.baselines import HistoricalProfile, Persistence, cell_medians, leave_one_out
from networks.errors import InputError
from networks.graph import Floats
from networks.state import History, TimeGrid

DAY = 86400.0
MONDAY = 4 * DAY  # 1970-01-05


def history(flow: Floats, *, start_s: float = MONDAY, step_s: float = 300.0) -> History:
    return History(
        TimeGrid(start_s, step_s, len(flow)), np.nan_to_num(flow), np.full(flow.shape, 8.0), np.isfinite(flow)
    )


def test_persistence_holds_the_mean_of_the_last_minutes() -> None:
    flow = np.array([[9.0], [0.1], [0.2], [0.3], [0.4], [0.5]])
    expected = Persistence(300.0).expect(history(flow, step_s=60.0), np.array([0.0, 1.0]))
    np.testing.assert_allclose(expected.flow_vps[:, 0], 0.3)
    silent = np.concatenate([flow, np.full((5, 1), np.nan)])
    assert not Persistence(300.0).expect(history(silent, step_s=60.0), np.array([0.0])).valid.any()


def test_profile_tells_weekday_weekend_and_each_day_apart_when_it_has_seen_enough() -> None:
    days = 28
    flow = np.repeat([float(d % 7) for d in range(days)], 24)[:, None]
    profile = HistoricalProfile(history(flow, step_s=3600.0))
    at = MONDAY + (np.arange(35, 42) + 0.5) * DAY
    np.testing.assert_allclose(profile.expect(history(flow[:0]), at).flow_vps[:, 0], [0, 1, 2, 3, 4, 5, 6])
    short = HistoricalProfile(history(flow[: 7 * 24], step_s=3600.0))
    np.testing.assert_allclose(short.expect(history(flow[:0]), at).flow_vps[:, 0], [2, 2, 2, 2, 2, 5.5, 5.5])


def test_profile_is_not_moved_by_one_freak_day() -> None:
    flow = np.full((21 * 24, 1), 0.2)
    flow[3 * 24 : 4 * 24] = 5.0
    profile = HistoricalProfile(history(flow, step_s=3600.0))
    np.testing.assert_allclose(profile.expect(history(flow[:0]), MONDAY + np.arange(50) * 3600.0).flow_vps, 0.2)


def test_profile_of_one_hour_is_held_a_while_and_then_ends() -> None:
    start = MONDAY + 7 * 3600.0
    profile = HistoricalProfile(history(np.linspace(0.1, 1.2, 12)[:, None], start_s=start), hold_s=1800.0)
    later = profile.expect(history(np.zeros((0, 1))), start + np.array([3570.0, 3600.0 + 1500.0, 3600.0 + 7200.0]))
    np.testing.assert_allclose(later.flow_vps[:2, 0], 1.2, atol=1e-9)
    assert later.valid[:, 0].tolist() == [True, True, False]
    tomorrow = profile.expect(history(np.zeros((0, 1))), np.array([start + 9 * DAY + 150.0]))
    assert tomorrow.flow_vps[0, 0] == pytest.approx(0.1)


def test_local_time_decides_the_cell() -> None:
    past = np.zeros((24, 1))
    past[8] = 1.0  # 08:00 UTC is 16:00 in Beijing
    profile = HistoricalProfile(history(past, step_s=3600.0), utc_offset_s=8 * 3600.0)
    assert profile.expect(history(past[:0]), np.array([MONDAY + 8.5 * 3600.0])).flow_vps[0, 0] == 1.0


values_with_gaps = arrays(
    np.float64, st.tuples(st.integers(1, 9), st.integers(1, 3)), elements=st.floats(-50, 50) | st.just(np.nan)
)


@settings(max_examples=60)
@given(values_with_gaps)
def test_medians_equal_numpys_and_leave_one_out_means_it(values: Floats) -> None:
    found = cell_medians(np.zeros(len(values), np.int64), values, 1)[0]
    others = leave_one_out(MONDAY + np.arange(len(values)) * 7 * DAY, values, 3600.0)
    for column in range(values.shape[1]):
        finite = values[np.isfinite(values[:, column]), column]
        assert found[column] == pytest.approx(np.median(finite)) if len(finite) else np.isnan(found[column])
        for row in range(len(values)):
            rest = np.delete(values[:, column], row)
            rest = rest[np.isfinite(rest)]
            answer = others[row, column]
            assert answer == pytest.approx(np.median(rest)) if len(rest) else np.isnan(answer)


def test_backtest_windows_do_not_span_gaps_and_short_series_are_refused() -> None:
    start_s = np.concatenate([np.arange(30), np.arange(40, 80)]) * 60.0
    series = Series(start_s, 60.0, np.zeros((70, 1)))
    assert len(contiguous_starts(series)) == (30 - 23) + (40 - 23)
    with pytest.raises(InputError, match="too few"):
        backtest(Series(start_s[:20], 60.0, np.zeros((20, 1))))


def test_backtest_prefers_the_deviation_when_days_differ_in_level() -> None:
    rng = np.random.default_rng(3)
    shape = np.tile(1.0 + np.sin(np.arange(96) / 96 * 2 * np.pi), 28)
    level = np.repeat(rng.uniform(0.6, 1.4, 28), 96)
    series = Series(MONDAY + np.arange(28 * 96) * 900.0, 900.0, (shape * level)[:, None])
    scores = {s.name: s.mean_mae for s in backtest(series)}
    assert scores["profile+deviation"] < scores["profile"]
    assert scores["profile+deviation"] < scores["persistence"]


@pytest.mark.parametrize(
    ("name", "published_profile"),
    [("los_loop", 4.66), ("darmstadt_2024_03", 63.3), ("scats_boroondara_2006_10", 11.39)],
)
def test_profile_reaches_the_published_figure_on_real_series(
    shared_data: Path, name: str, published_profile: float
) -> None:
    stored = np.load(shared_data / "forecasting" / f"{name}.npz", allow_pickle=False)
    meta = json.loads(str(stored["meta"]))
    raw = stored[f"x_{meta['target']}"]
    values = raw * float(stored[f"scale_{meta['target']}"])
    values[raw == 65535] = np.nan
    series = Series(stored["t"].astype(np.float64), float(stored["dt"]), values)
    scores = {s.name: s for s in backtest(series, split=tuple(meta["split"]))}
    assert scores["profile"].mean_mae < 1.03 * published_profile  # theirs are means, ours medians
    assert scores["profile+deviation"].mean_mae < scores["profile"].mean_mae
