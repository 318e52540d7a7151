"""What the loop knows of the hours to come, from notices and weather forecasts."""

from __future__ import annotations

import pytest

from networks.batches import Batches
from networks.messages import NoticeReport, WeatherReport
from scenarios.announced import Shower, SlowEdge
from tests.twin import small_city as town
from twin.ahead import Ahead
from twin.inbox import Inbox
from twin.privacy import Pseudonyms

NETWORK = town.small_network()
T0_S = town.T0_S


def batches(*messages: tuple[str, NoticeReport | WeatherReport]) -> Batches:
    inbox = Inbox(NETWORK, town.DETECTORS, pseudonyms=Pseudonyms(b"test"))
    for counter, (feed, message) in enumerate(messages):
        inbox.offer(town.frame(feed, message, counter=counter), T0_S + 1)
    return inbox.take(T0_S + 1)


def notice(name: str = "works", **changed: object) -> NoticeReport:
    asked = {"edge": "east_out", "begin": T0_S + 600, "end": T0_S + 1200, **changed}
    return NoticeReport.model_validate({"measured_at": T0_S, "id": name, **asked})


def rain(mm_h: float, from_s: float | None = None, until_s: float | None = None) -> WeatherReport:
    hours = {"forecast_from": from_s, "forecast_until": until_s}
    return WeatherReport.model_validate(town.weather().model_dump() | {"rain_mm_h": mm_h} | hours)


@pytest.fixture
def ahead() -> Ahead:
    return Ahead(None, NETWORK, None)  # type: ignore[arg-type]


def test_a_closed_edge_and_a_lower_limit_are_ahead_until_they_are_over(ahead: Ahead) -> None:
    ahead.note(batches(("control", notice()), ("control", notice("slow", edge="west_in", speed_limit_mps=5.0))))
    announced = ahead.announced(T0_S + 2)
    assert announced.edges == (SlowEdge(0, 5.0, T0_S + 600, T0_S + 1200), SlowEdge(2, 0.0, T0_S + 600, T0_S + 1200))
    assert not ahead.announced(T0_S + 1200)


def test_a_newer_notice_of_one_name_replaces_the_older(ahead: Ahead) -> None:
    ahead.note(batches(("control", notice())))
    ahead.note(batches(("control", notice(end=T0_S + 900))))
    assert [slow.end_s for slow in ahead.announced(T0_S + 2).edges] == [T0_S + 900]


def test_the_only_lane_closed_closes_the_edge(ahead: Ahead) -> None:
    ahead.note(batches(("control", notice(lanes=(0,)))))
    assert ahead.announced(T0_S + 2).edges[0].limit_mps == 0.0


def test_rain_that_is_foretold_is_ahead_and_rain_that_is_seen_is_not(ahead: Ahead) -> None:
    ahead.note(batches(("weather", rain(9.0)), ("weather", rain(12.0, T0_S + 600, T0_S + 1800))))
    assert ahead.announced(T0_S + 2).showers == (Shower(12.0, T0_S + 600, T0_S + 1800),)
    ahead.note(batches(("weather", rain(0.0, T0_S + 600, T0_S + 1800))))
    assert not ahead.announced(T0_S + 3), "the forecast was taken back"


@pytest.mark.parametrize(("from_s", "until_s"), [(T0_S, None), (None, T0_S), (T0_S + 10, T0_S)])
def test_a_weather_forecast_without_its_hours_is_refused(from_s: float | None, until_s: float | None) -> None:
    inbox = Inbox(NETWORK, town.DETECTORS, pseudonyms=Pseudonyms(b"test"))
    inbox.offer(town.frame("weather", rain(1.0, from_s, until_s)), T0_S + 1)
    assert not len(inbox.take(T0_S + 1).weather.rain_mm_h)
    assert any("forecast" in str(row) for row in inbox.quarantine.drain())


def test_only_what_changed_counts_as_news(ahead: Ahead) -> None:
    ahead.note(batches(("control", notice())))
    first = ahead.announced(T0_S + 2)
    ahead.note(batches(("control", notice())))
    assert ahead.announced(T0_S + 3) == first
