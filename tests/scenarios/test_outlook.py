"""Past days and outlooks of a small grid: what forecasters are fitted on, and what is known in advance."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from networks.city import CityFolder, Coverage, load_network
from networks.graph import Network
from scenarios.announced import Announced, Shower, SlowEdge
from scenarios.outlook import foresee
from scenarios.past_days import build_past
from scenarios.prior import Prior, build_prior
from scenarios.weather import driving_in_rain
from tests.grids import draw_grid

DEMAND = """<routes>
  <vType id="car"/>
  <flow id="f" type="car" begin="0" end="1200" number="240"><route edges="A0B0 B0C0 C0C1 C1C2"/></flow>
  <flow id="g" type="car" begin="0" end="1200" number="120"><route edges="A2B2 B2B1 B1B0"/></flow>
</routes>"""
EPOCH_S = datetime(2026, 3, 2, 8, tzinfo=UTC).timestamp()  # a Monday


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> CityFolder:
    """A 3 x 3 grid with priority junctions and twenty minutes of demand."""
    folder = tmp_path_factory.mktemp("grid")
    net = draw_grid(folder / "net.net.xml", 3, 200, "-L", "1", "--no-turnarounds")
    demand = folder / "demand.rou.xml"
    demand.write_text(DEMAND)
    return CityFolder("grid", folder, net, (demand,), (), (), 0.0, 1200.0, EPOCH_S, Coverage())


@pytest.fixture(scope="module")
def network(city: CityFolder) -> Network:
    return load_network(city)


@pytest.fixture(scope="module")
def prior(city: CityFolder, network: Network) -> Prior:
    return build_prior(city, network, cache=None)


def test_a_closure_takes_the_traffic_to_other_streets_while_it_lasts(
    city: CityFolder, network: Network, prior: Prior
) -> None:
    shut = network.edge_index["B0C0"]
    closed = Announced((SlowEdge(shut, 0.0, EPOCH_S + 300.0, EPOCH_S + 900.0),))
    change = foresee(city, network, prior, closed).change.flow_change_vps * 300.0
    assert change[0, shut] == 0.0, "nothing changes before it begins"
    before = prior.profile.flow_vps[1:3, shut] * 300.0
    assert (change[1:3, shut] < -0.7 * before).all()
    others = np.delete(change[1:3], shut, axis=1)
    assert others.max(axis=1).min() > 15.0, "the drivers are somewhere else"


def test_rain_slows_the_hours_it_falls_in(city: CityFolder, network: Network, prior: Prior) -> None:
    rain = Announced(showers=(Shower(15.0, EPOCH_S + 300.0, EPOCH_S + 900.0),))
    change = foresee(city, network, prior, rain).change.speed_change_mps
    driven = prior.profile.flow_vps.min(axis=0) > 0.05
    assert driven.any()
    assert change[1:3, driven].mean() < -0.03 * prior.profile.speed_mps[1:3, driven].mean()
    assert np.abs(change[0, driven]).max() < 0.3


def test_nothing_announced_changes_nothing(city: CityFolder, network: Network, prior: Prior) -> None:
    change = foresee(city, network, prior, Announced()).change
    assert not change.flow_change_vps.any()
    assert not change.speed_change_mps.any()


def test_past_days_are_working_days_that_differ_and_come_from_the_cache_the_second_time(
    city: CityFolder, network: Network, prior: Prior, tmp_path: Path
) -> None:
    days = build_past(city, network, days=3, cache=tmp_path)
    assert [datetime.fromtimestamp(d.grid.start_s, UTC).strftime("%a %H:%M") for d in days] == [
        "Wed 08:00", "Thu 08:00", "Fri 08:00",
    ]  # fmt: skip
    flow = np.stack([d.flow_vps for d in days])
    assert np.ptp(flow.sum(axis=(1, 2))) > 0.01 * flow.sum(axis=(1, 2)).mean()
    used = prior.profile.valid[0]
    assert abs(flow[:, :, used].mean() / prior.profile.flow_vps[:, used].mean() - 1.0) < 0.25
    again = build_past(city, network, days=3, cache=tmp_path)
    np.testing.assert_array_equal(again[2].flow_vps, days[2].flow_vps)
    assert build_past(city, network, days=0, cache=None) == ()


@pytest.mark.parametrize(
    ("rain_mm_h", "speed", "headway"), [(0.0, 1.0, 1.0), (16.0, 0.925, 1.1645), (100.0, 0.925, 1.1645)]
)
def test_driving_in_rain_follows_its_sources(rain_mm_h: float, speed: float, headway: float) -> None:
    driving = driving_in_rain(rain_mm_h)
    assert driving.speed_frac == pytest.approx(speed, abs=1e-3)
    assert driving.headway_frac == pytest.approx(headway, abs=1e-3)
