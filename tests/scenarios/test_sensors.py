"""Where loops and roadside units are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from networks.city import Coverage
from networks.errors import InputError
from networks.graph import Network
from networks.sensors import (
    approach_edges,
    covers_approaches,
    find_detectors,
    instrumented_signals,
    signal_positions,
    stable_share,
)


def test_loops_lie_before_the_stop_line_and_100_m_upstream(tiny_network: Network) -> None:
    detectors = find_detectors(tiny_network, Coverage(loops=1.0))
    lanes = tiny_network.lanes
    before_stop_m = {d.id: lanes.length_m[d.lane] - d.position_m for d in detectors}
    stop = [before_stop_m[d.id] for d in detectors if d.role == "stop"]
    upstream = [before_stop_m[d.id] for d in detectors if d.role == "upstream"]
    assert stop == pytest.approx([2.0] * len(stop))
    assert upstream == pytest.approx([100.0] * len(upstream))
    approached = approach_edges(tiny_network)
    assert {int(lanes.edge[d.lane]) for d in detectors} == set(approached)
    assert len(stop) == len(upstream) == 2 * len(approached)


@given(st.floats(0, 1), st.floats(0, 1))
def test_more_coverage_keeps_every_loop(tiny_network: Network, one: float, other: float) -> None:
    few, many = sorted((one, other))
    small = find_detectors(tiny_network, Coverage(loops=few))
    large = find_detectors(tiny_network, Coverage(loops=many))
    assert set(small) <= set(large)
    assert len(small) == 4 * round(few * len(approach_edges(tiny_network)))


def test_a_list_of_a_rule_s_own_loops_gives_the_same_loops(tiny_network: Network, tmp_path: Path) -> None:
    """Told with their roles, and without: then the roles follow from where they lie."""
    placed = find_detectors(tiny_network, Coverage(loops=0.5))
    lanes = tiny_network.lanes.ids
    for roles in (True, False):
        rows = [f"{d.id},{lanes[d.lane]},{d.position_m!r}" + (f",{d.role}" if roles else "") for d in placed]
        path = tmp_path / "detectors.csv"
        path.write_text("\n".join([f"id,lane,position_m{',role' if roles else ''}", *reversed(rows)]))
        assert set(find_detectors(tiny_network, Coverage(loops=path))) == set(placed)
    assert not covers_approaches(tiny_network, placed)
    assert covers_approaches(tiny_network, find_detectors(tiny_network, Coverage(loops=1.0)))


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ("a,nowhere_0,3.0", "lane: the network has no lane 'nowhere_0'"),
        ("a,{lane},far", "position_m"),
        ("a,{lane},1e6", "position_m"),
        ("a,{lane}", "2 fields"),
        (",{lane},3.0", "id"),
        ("b,{lane},3.0", "id"),
    ],
)
def test_a_list_that_cannot_be_used_is_refused_by_line_and_field(
    tiny_network: Network, tmp_path: Path, row: str, named: str
) -> None:
    lane = tiny_network.lanes.ids[0]
    path = tmp_path / "detectors.csv"
    path.write_text(f"id,lane,position_m\nb,{lane},1.0\n{row.format(lane=lane)}\n")
    with pytest.raises(InputError, match=r"detectors\.csv line 3") as refused:
        find_detectors(tiny_network, Coverage(loops=path))
    assert named in str(refused.value)


def test_units_stand_where_the_city_says(tiny_network: Network) -> None:
    names = tuple(s.id for s in tiny_network.signals[::-2])
    assert instrumented_signals(tiny_network, Coverage(roadside=names)) == tuple(
        sorted(tiny_network.signal_index[name] for name in names)
    )
    with pytest.raises(InputError, match="'J99'"):
        instrumented_signals(tiny_network, Coverage(roadside=("J99",)))


@given(st.floats(0, 1))
def test_units_are_as_many_as_asked_and_spread(tiny_network: Network, share: float) -> None:
    units = instrumented_signals(tiny_network, Coverage(roadside=share))
    assert len(units) == len(set(units)) == round(share * 6)
    if len(units) == 3:  # of a 3 x 2 grid of 220 m: no three neighbours in a row
        xy = signal_positions(tiny_network)[list(units)]
        apart_m = np.linalg.norm(xy[:, None] - xy[None], axis=2)
        assert apart_m[apart_m > 0].max() > 400.0


@given(st.text(max_size=40))
def test_stable_share_is_a_share(text: str) -> None:
    assert 0.0 <= stable_share(text) < 1.0
    assert stable_share(text) == stable_share(text)


def test_stable_share_is_the_same_on_every_machine() -> None:
    assert stable_share("citytwin") == pytest.approx(0.3709564889575244, abs=1e-15)
