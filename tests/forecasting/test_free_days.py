"""Holidays are lived like Sundays, weekends that are worked like workdays, and a city may know better."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forecasting.city_context import fit_context
from forecasting.free_days import check_country, country_of, lived_weekday, worked_holidays
from forecasting.grid import Grid
from forecasting.series import DAY_S, CitySeries, weekday
from networks.errors import InputError
from tests.forecasting.cities import drawn_city


def noon(day: str) -> int:
    return int(np.datetime64(f"{day}T12:00", "s").astype(np.int64))


@pytest.mark.parametrize(
    ("country", "day", "lived"),
    [
        ("DE", "2024-03-29", 6),  # Good Friday
        ("DE", "2024-03-28", 3),
        ("DE-HE", "2024-05-30", 6),  # Corpus Christi, in Hesse
        ("DE-BE", "2024-05-30", 3),
        ("CN", "2025-01-29", 6),  # Spring Festival, a Wednesday
        ("CN", "2025-01-26", 0),  # a Sunday that is worked in return
        ("CN", "2025-02-08", 4),  # and a Saturday
        ("CN", "2025-02-09", 6),
        ("", "2024-03-29", 4),
    ],
)
def test_days_are_lived_as_the_country_arranges(country: str, day: str, lived: int) -> None:
    assert lived_weekday(np.array([noon(day)]), country).tolist() == [lived]


def test_an_unknown_country_is_named() -> None:
    check_country("")
    with pytest.raises(InputError, match="'XX'"):
        check_country("XX")
    with pytest.raises(InputError, match="DE-XX"):
        lived_weekday(np.array([noon("2024-03-29")]), "DE-XX")


def test_times_that_are_no_seconds_are_told() -> None:
    milliseconds = 1000 * np.array([noon("2024-03-29")])
    with pytest.raises(InputError, match=r"t: .* beyond the calendar"):
        lived_weekday(milliseconds, "DE")


@given(st.integers(0, 3_000), st.sampled_from(["", "CN", "DE-HE", "US-CA"]))
def test_only_holidays_and_their_make_up_days_move(first: int, country: str) -> None:
    start_s = noon("2018-01-01") + (first + np.arange(30)) * DAY_S
    plain, lived = weekday(start_s), lived_weekday(start_s, country)
    moved = plain != lived
    assert moved.sum() <= 12
    assert (lived[moved & (plain < 5)] == 6).all()


def at(lat: float, lon: float, **meta: str) -> CitySeries:
    city = drawn_city(days=2, nodes=3)
    return replace(city, attributes={"lat": np.array([lat, np.nan, lat]), "lon": np.full(3, lon)}, meta=meta)


def test_the_country_is_read_off_the_places_unless_the_series_says_it() -> None:
    assert country_of(at(49.87, 8.65)) == "DE-HE"
    assert country_of(at(39.80, 116.50)) == "CN"
    assert country_of(at(47.27, 11.40)).startswith("AT")  # 25 km from Germany
    assert country_of(at(49.87, 8.65, country="FR")) == "FR"
    assert country_of(at(np.nan, np.nan)) == ""
    assert country_of(at(0.0, -30.0)) == ""  # at sea
    assert country_of(drawn_city(days=2)) == ""


def american_city(columbus_day: float, thanksgiving: float) -> CitySeries:
    """Ten weeks of autumn 2023; days at half the flow are weekends, or as told."""
    city = drawn_city(days=70, nodes=4, missing=0.0, noise=0.2)
    start_s = noon("2023-10-02") - DAY_S // 2 + np.arange(len(city.values)) * city.step_s
    day = start_s // DAY_S
    level = np.where(weekday(start_s) >= 5, 0.5, 1.0)
    level[day == noon("2023-10-09") // DAY_S] = columbus_day
    level[day == noon("2023-11-23") // DAY_S] = thanksgiving
    pattern = 100.0 + 80.0 * np.sin(2 * np.pi * start_s / DAY_S)
    values = (pattern * level)[:, None] * np.ones(4) + np.random.default_rng(0).normal(0, 1, (len(level), 4))
    return replace(city, values=values.astype(np.float32), start_s=start_s, meta={"country": "US"})


def test_a_holiday_on_which_the_city_worked_before_is_no_free_day() -> None:
    city = american_city(columbus_day=1.0, thanksgiving=0.5)
    worked = worked_holidays(city.values, city.start_s, "US")
    assert worked == {"Columbus Day", "Veterans Day (observed)"}  # both seen at full flow
    assert lived_weekday(np.array([noon("2024-10-14")]), "US", worked).tolist() == [0]
    assert lived_weekday(np.array([noon("2024-11-28")]), "US", worked).tolist() == [6]


def test_the_profile_knows_a_holiday_before_it_comes() -> None:
    city = american_city(columbus_day=1.0, thanksgiving=0.5)
    trained = int(np.searchsorted(city.start_s, noon("2023-11-20")))
    eve = int(np.searchsorted(city.start_s, noon("2023-11-23")))
    told = [fit_context(replace(city, meta={"country": c}), trained).usual[eve].mean() for c in ("US", "")]
    truth = city.values[eve].mean()
    assert abs(told[0] - truth) < 0.1 * truth
    assert abs(told[1] - truth) > 0.5 * truth


def test_a_gap_of_weeks_moves_no_holiday() -> None:
    """The grid takes whole weeks of emptiness out of its times; days are judged by their true dates."""
    start_s = np.array([noon("2024-03-01"), noon("2024-03-29")])
    grid = Grid.of(start_s, 3600, "DE")
    assert grid.weekday[grid.row].tolist() == [4, 6]
