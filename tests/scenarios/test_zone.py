"""The synthetic zone: reproducible, sound plans, drivable demand."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import itertools
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyproj
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from networks.city import CityFolder, load_network, read_city
from networks.errors import CityError
from networks.graph import LEFT, RIGHT, STRAIGHT, Network
from scenarios.cities import bundled_folder, find_city
from scenarios.simulation import RunSpec, Simulation, run_in_process
from scenarios.zone.build import build_zone
from scenarios.zone.layout import Layout, draw_layout
from scenarios.zone.offsets import Coupling, best_offsets
from scenarios.zone.parameters import ZoneParameters
from scenarios.zone.programmes import describe_junction
from scenarios.zone.splits import common_cycle_s, greens_s, least_greens
from signals.fixed import fixed_plan
from signals.safety import find_violations

SMALL = ZoneParameters(
    name="small",
    arterial_columns=2,
    arterial_rows=2,
    open_blocks=0,
    duration_s=600.0,
    trips_veh_h=2400.0,
    ebikes_h=600.0,
    walkers_h=600.0,
)


@pytest.fixture(scope="module")
def small_city(tmp_path_factory: pytest.TempPathFactory) -> CityFolder:
    folder = tmp_path_factory.mktemp("zone")
    build_zone(SMALL, folder)
    return read_city(folder)


@pytest.fixture(scope="module")
def small_network(small_city: CityFolder) -> Network:
    return load_network(small_city)


def test_equal_parameters_give_equal_files(small_city: CityFolder, tmp_path: Path) -> None:
    build_zone(SMALL, tmp_path)
    assert _digests(tmp_path) == _digests(small_city.folder)


def test_another_seed_draws_another_zone() -> None:
    ours, other = draw_layout(SMALL), draw_layout(replace(SMALL, seed=SMALL.seed + 1))
    assert ours.nodes != other.nodes


def test_default_zone_has_the_promised_size_and_spacing() -> None:
    p = ZoneParameters()
    layout = draw_layout(p)
    assert len(layout.legs) >= 60
    assert all(len(legs) >= 3 for legs in layout.legs.values())
    for line in layout.lines:
        arterials = [n for n in line if all(leg.street.arterial for leg in layout.legs[n].values())]
        for a, b in itertools.pairwise(arterials):
            m, n = layout.nodes[a], layout.nodes[b]
            assert 500.0 <= abs(m.x_m - n.x_m) + abs(m.y_m - n.y_m) <= 800.0


def test_every_parameter_is_explained() -> None:
    text = ZoneParameters.__doc__ or ""
    assert [f.name for f in dataclasses.fields(ZoneParameters) if f"`{f.name}`" not in text] == []


def test_zone_lies_where_its_parameters_say(small_network: Network) -> None:
    assert small_network.projection is not None
    to_wgs84 = pyproj.Transformer.from_crs(small_network.projection, "EPSG:4326", always_xy=True)
    lon, lat = to_wgs84.transform(-small_network.net_offset_m[0], -small_network.net_offset_m[1])
    assert (lon, lat) == pytest.approx((SMALL.origin_lon, SMALL.origin_lat), abs=1e-6)


def test_shipped_plan_is_safe(small_network: Network) -> None:
    for index, signal in enumerate(small_network.signals):
        assert find_violations(fixed_plan(signal, index=index, epoch_of_zero_s=0.0), signal, None) == []


def test_walkers_get_their_green_and_everything_passes_through_yellow(small_network: Network) -> None:
    for signal in small_network.signals:
        seconds = [p.state for p in signal.programme.phases for _ in range(int(p.duration_s))]
        for link in range(signal.link_count):
            lamps = "".join(state[link] for state in seconds)
            assert set("Gg") & set(lamps), f"{signal.id} never opens link {link}"
            twice = lamps + lamps
            runs = [(c, len(list(run))) for c, run in itertools.groupby(twice)][1:-1]
            for (before, _), (after, _) in itertools.pairwise(runs):
                assert not (before in "Gg" and after in "rs"), f"{signal.id} link {link} loses green without yellow"
            if signal.pedestrian[link]:
                assert all(length >= SMALL.walk_green_s for c, length in runs if c == "G")
            assert all(length >= signal.yellow_s for c, length in runs if c == "y")


def test_arterial_left_turns_are_protected_with_a_lane_of_their_own(small_network: Network) -> None:
    layout = draw_layout(SMALL)
    move, lanes = small_network.movements, small_network.lanes
    checked = 0
    for node, legs in layout.legs.items():
        signal = small_network.signals[small_network.signal_index[node]]
        for leg in legs.values():
            mine = [
                m
                for m in np.flatnonzero(move.signal == small_network.signal_index[node])
                if small_network.edges.ids[lanes.edge[move.from_lane[m]]] == leg.approach
            ]
            left = [m for m in mine if move.turn[m] == LEFT]
            if not leg.street.arterial or not left:
                continue
            assert {int(move.from_lane[m]) for m in left}.isdisjoint(
                int(move.from_lane[m]) for m in mine if move.turn[m] in (STRAIGHT, RIGHT)
            )
            for m in left:
                shown = {p.state[move.link[m]] for p in signal.programme.phases}
                assert "G" in shown
                assert "g" not in shown
                checked += 1
    assert checked >= 12


def test_right_turns_on_red_give_way(small_network: Network) -> None:
    move = small_network.movements
    for signal in small_network.signals:
        on_red = {k for p in signal.programme.phases for k, c in enumerate(p.state) if c == "s"}
        assert on_red
        for k in on_red:
            for m in signal.link_movements[k]:
                assert move.turn[m] == RIGHT
                assert move.yields[m]


def test_routes_are_connected(small_city: CityFolder, small_network: Network) -> None:
    vehicles = 0
    for path in small_city.routes:
        text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        for vehicle in ET.fromstring(text).iter("vehicle"):
            route = vehicle.find("route")
            assert route is not None
            edges = [small_network.edge_index[e] for e in route.attrib["edges"].split()]
            for a, b in itertools.pairwise(edges):
                assert b in small_network.edge_successors[a]
            vehicles += 1
    assert vehicles >= 400


def test_sumo_drives_the_demand_without_collision_or_jam(small_city: CityFolder) -> None:
    arrived, collisions, waiting = run_in_process(_drive, small_city, 600.0)
    assert collisions == 0
    assert arrived >= 200
    assert waiting <= 10


def test_unknown_city_is_named_with_the_bundled_ones(tmp_path: Path) -> None:
    with pytest.raises(CityError, match=r"nowhere.*zone"):
        find_city(str(tmp_path / "nowhere"))


def test_a_folder_is_a_city(small_city: CityFolder) -> None:
    assert find_city(str(small_city.folder)) == small_city


def test_bundled_city_is_built_once_and_leaves_no_scraps(tmp_path: Path) -> None:
    first = bundled_folder(SMALL, tmp_path)
    stamp = (first / "city.toml").stat().st_mtime_ns
    assert bundled_folder(SMALL, tmp_path) == first
    assert (first / "city.toml").stat().st_mtime_ns == stamp
    assert bundled_folder(replace(SMALL, trips_veh_h=600.0), tmp_path) != first
    assert len([p for p in tmp_path.iterdir() if p.is_dir()]) == 2


def test_failed_build_leaves_no_half_city(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: ZoneParameters, folder: Path) -> None:
        (folder / "city.toml").write_text("half")
        raise OSError("disk full")

    monkeypatch.setattr("scenarios.cities.build_zone", fail)
    with pytest.raises(OSError, match="disk full"):
        bundled_folder(SMALL, tmp_path)
    assert not [p for p in tmp_path.iterdir() if p.is_dir()]


@pytest.fixture(scope="module")
def small_layout() -> Layout:
    return draw_layout(SMALL)


@settings(max_examples=40)
@given(flows=st.lists(st.floats(0.0, 2500.0), min_size=12, max_size=12), cycle=st.integers(88, 160))
def test_greens_fill_the_cycle_and_respect_the_least(
    small_network: Network, small_layout: Layout, flows: list[float], cycle: int
) -> None:
    by_movement = dict(zip(itertools.product("NESW", "slr"), flows, strict=True))
    for node in small_layout.legs:
        junction = describe_junction(small_network, small_layout, node, by_movement, SMALL)
        cycle_s = max(cycle, common_cycle_s([junction], SMALL))
        greens = greens_s(junction, cycle_s, SMALL)
        assert sum(greens) + len(greens) * junction.intergreen_s == cycle_s
        assert all(g >= least for g, least in zip(greens, least_greens(junction, SMALL), strict=True))


@given(travel=st.integers(5, 50))
def test_one_way_offset_is_the_travel_time(travel: int) -> None:
    green = np.zeros(60)
    green[:20] = 1.0
    coupling = Coupling(0, 1, green * 0.5, green, 0.5, float(travel))
    offsets = best_offsets([coupling], 2, 60, np.random.default_rng(1))
    lead = (offsets[1] - offsets[0]) % 60
    assert abs(lead - travel) <= 0.2 * travel + 1  # the platoon's head comes early, its tail is spread


def _digests(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


def _drive(city: CityFolder, until_s: float) -> tuple[int, int, int]:
    """Arrivals, collisions and vehicles that wait for insertion at the end."""
    arrived = collisions = 0
    spec = RunSpec(network=city.network, routes=city.routes, additional=city.additional, seed=1)
    with Simulation(spec) as simulation:
        while simulation.now_s < until_s:
            simulation.step()
            arrived += simulation.sumo.simulation.getArrivedNumber()
            collisions += simulation.sumo.simulation.getCollidingVehiclesNumber()
        return arrived, collisions, len(simulation.sumo.simulation.getPendingVehicles())
