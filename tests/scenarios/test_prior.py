"""What the demand file says before any sensor speaks."""

from __future__ import annotations

import gzip
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from networks.city import CityFolder, Coverage, load_network, read_city
from networks.graph import Network
from scenarios.prior import Prior, build_prior
from scenarios.shares import pour
from tests.grids import draw_grid

DEMAND = """<routes>
  <vType id="car"/><vType id="bike" vClass="bicycle"/>
  <route id="east" edges="A0B0 B0C0 C0C1"/>
  <flow id="f" type="car" route="east" begin="0" end="600" number="120"/>
  <trip id="t" type="car" depart="10" from="A1B1" to="B1C1"/>
  <vehicle id="v" type="car" depart="20"><route edges="A0B0 B0B1 B1B2"/></vehicle>
</routes>"""


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> CityFolder:
    """A signalised 3 x 3 grid with a flow, a trip and a vehicle, demand packed."""
    folder = tmp_path_factory.mktemp("grid")
    net = draw_grid(folder / "net.net.xml", 3, 150, "--default-junction-type", "traffic_light", "-L", "2")
    demand = folder / "demand.rou.xml.gz"
    with gzip.open(demand, "wt") as file:
        file.write(DEMAND)
    return CityFolder("grid", folder, net, (demand,), (), (), 0.0, 900.0, 1.7e9, Coverage())


@pytest.fixture(scope="module")
def network(city: CityFolder) -> Network:
    return load_network(city)


@pytest.fixture(scope="module")
def prior(city: CityFolder, network: Network) -> Prior:
    return build_prior(city, network, cache=None)


def test_vehicles_are_conserved(prior: Prior, network: Network) -> None:
    departed, arrived = (prior.departed_vps * 300).sum(axis=0), (prior.arrived_vps * 300).sum(axis=0)
    left = (prior.profile.flow_vps * 300).sum(axis=0)
    first, middle, last = (network.edge_index[e] for e in ("A0B0", "B0C0", "C0C1"))
    assert departed[first] == pytest.approx(121)
    assert left[first] == pytest.approx(departed[first])
    assert left[middle] == pytest.approx(120)
    assert arrived[last] == pytest.approx(120)
    assert departed.sum() == pytest.approx(122)
    assert arrived.sum() == pytest.approx(122)


def test_profile_lies_on_the_city_clock(prior: Prior, city: CityFolder) -> None:
    assert prior.profile.grid.start_s == city.epoch_s
    assert prior.profile.grid.count == 3


def test_speeds_are_driven_speeds(prior: Prior, network: Network) -> None:
    used = prior.profile.valid & (prior.profile.flow_vps > 0)
    assert (prior.profile.speed_mps[used] > 0).all()
    assert (prior.profile.speed_mps <= network.edges.speed_limit_mps + 1e-9).all()


def test_edges_without_demand_are_not_valid(prior: Prior, network: Network) -> None:
    assert not prior.profile.valid[:, network.edge_index["C2B2"]].any()
    assert prior.profile.valid[:, network.edge_index["A0B0"]].all()


def test_shares_sum_to_one_over_every_lane(prior: Prior, network: Network) -> None:
    total = np.bincount(network.movements.from_lane, prior.movement_share, minlength=len(network.lanes.ids))
    lanes = np.unique(network.movements.from_lane)
    assert total[lanes] == pytest.approx(1.0)
    edge = network.lanes.edge
    straight = (edge[network.movements.from_lane] == network.edge_index["A0B0"]) & (
        edge[network.movements.to_lane] == network.edge_index["B0C0"]
    )
    assert prior.movement_vehicles[straight].sum() == pytest.approx(120)


def test_second_call_reads_the_same_from_the_cache(
    city: CityFolder, network: Network, prior: Prior, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build_prior(city, network, cache=tmp_path)
    monkeypatch.setattr("scenarios.prior.run_in_process", _refuse)
    second = build_prior(city, network, cache=tmp_path)
    for field in fields(Prior)[1:]:
        assert np.array_equal(getattr(first, field.name), getattr(second, field.name))
        assert np.array_equal(getattr(first, field.name), getattr(prior, field.name))
    assert np.array_equal(first.profile.flow_vps, second.profile.flow_vps)
    assert np.array_equal(first.profile.speed_mps, second.profile.speed_mps)


def test_damaged_cache_is_made_again(city: CityFolder, network: Network, prior: Prior, tmp_path: Path) -> None:
    build_prior(city, network, cache=tmp_path)
    (kept,) = tmp_path.iterdir()
    whole = kept.read_bytes()
    kept.write_bytes(whole[: len(whole) // 2])
    again = build_prior(city, network, cache=tmp_path)
    assert np.array_equal(again.profile.flow_vps, prior.profile.flow_vps)
    assert [p.name for p in tmp_path.iterdir()] == [kept.name]
    assert np.load(kept)["flow_vps"].shape == prior.profile.flow_vps.shape


def test_changed_demand_is_another_prior(city: CityFolder, network: Network, tmp_path: Path) -> None:
    other = tmp_path / "other.rou.xml"
    other.write_text(DEMAND.replace('number="120"', 'number="60"'))
    cache = tmp_path / "cache"
    build_prior(city, network, cache=cache)
    changed = build_prior(replace(city, routes=(other,)), network, cache=cache)
    assert (changed.departed_vps * 300).sum() == pytest.approx(62)
    assert len(list(cache.iterdir())) == 2


def test_city_without_demand_has_nothing_valid(city: CityFolder, network: Network) -> None:
    empty = build_prior(replace(city, routes=()), network, cache=None)
    assert not empty.profile.valid.any()
    total = np.bincount(network.movements.from_lane, empty.movement_share, minlength=len(network.lanes.ids))
    assert total[np.unique(network.movements.from_lane)] == pytest.approx(1.0)


@given(st.lists(st.floats(0, 1e3), min_size=1, max_size=6), st.floats(0, 1e4))
def test_pouring_levels_and_conserves(level: list[float], amount: float) -> None:
    before = np.array(level)
    poured = pour(before, amount)
    assert poured.sum() == pytest.approx(amount, abs=1e-6)
    after = before + poured
    wet = poured > 1e-9
    assert after[wet] == pytest.approx(after[wet][0] if wet.any() else 0.0)
    assert (before[~wet] >= after[wet].min(initial=np.inf) - 1e-6).all() or not wet.any()


def test_real_city(shared_data: Path) -> None:
    city = read_city(shared_data / "networks" / "bologna_joined")
    network = load_network(city)
    prior = build_prior(city, network, cache=None)
    departed, arrived = (prior.departed_vps * 300).sum(), (prior.arrived_vps * 300).sum()
    assert 10_900 < departed < 11_200
    assert 0.85 * departed < arrived < departed
    assert prior.profile.valid[0].mean() > 0.8


def _refuse(*_: object) -> None:
    raise AssertionError("the cache was not used")
