"""Demand from counts: flows that add up, files that say where they are wrong."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from networks.errors import InputError
from networks.graph import Network
from scenarios.counts import Counts, fit_routes, plausible_routes, read_counts, write_routes
from scenarios.routes import read_demand


def counts_of(network: Network, flow_vph: dict[tuple[int, ...], float], begin_s: float = 0.0) -> Counts:
    """What loops on every edge of these routes would count."""
    total: Counter[int] = Counter()
    for route, vph in flow_vph.items():
        for edge in route:
            total[edge] += vph  # type: ignore[assignment]
    edges = sorted(total)
    return Counts(
        np.full(len(edges), begin_s),
        np.array(edges, np.int32),
        np.full(len(edges), -1, np.int32),
        np.array([total[e] for e in edges], float),
    )


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_what_routes_count_is_met(tiny_network: Network, data: st.DataObject) -> None:
    routes = plausible_routes(tiny_network, [])
    chosen = data.draw(st.lists(st.sampled_from(routes), min_size=1, max_size=6, unique=True))
    counts = counts_of(tiny_network, {r: data.draw(st.floats(20.0, 600.0)) for r in chosen})
    flows = fit_routes(tiny_network, counts, 3600.0, "counts")
    assert flows.flow_vph.min() >= 0.0
    assert flows.geh.max() < 1.0


def test_written_vehicles_are_as_many_as_counted(tiny_network: Network, tmp_path: Path) -> None:
    route = max(plausible_routes(tiny_network, []), key=len)
    flows = fit_routes(tiny_network, counts_of(tiny_network, {route: 240.0}, 600.0), 2400.0, "counts")
    assert flows.intervals == ((600.0, 2400.0),)
    path = tmp_path / "drawn.rou.xml"
    assert write_routes(path, tiny_network, flows, seed=3) == pytest.approx(120, abs=1)
    demand = read_demand(tiny_network, [path])
    assert len(demand) == pytest.approx(120, abs=1)
    assert demand.depart_s.min() >= 600.0
    assert demand.depart_s.max() < 2400.0
    passed = Counter(edge for n in range(len(demand)) for edge in demand.route[n].tolist())
    assert all(passed[edge] == pytest.approx(120, abs=3) for edge in route)


def test_turns_are_met_and_intervals_last_until_the_next(tiny_network: Network, tmp_path: Path) -> None:
    path = tmp_path / "turns.csv"
    path.write_text("time,from,to,flow\n07:00,A0B0,B0C0,300\n07:00,A0B0,B0B1,90\n07:15,A0B0,B0C0,120\n")
    counts = read_counts(path, tiny_network)
    assert counts.intervals(0.0) == [(25200.0, 26100.0), (26100.0, 27000.0)]
    flows = fit_routes(tiny_network, counts, 0.0, str(path))
    assert flows.modelled_vph == pytest.approx([300.0, 90.0, 120.0], rel=0.02)
    here = tiny_network.edge_index["A0B0"]
    assert all(here in route for route in flows.routes)


def test_routes_connect(tiny_network: Network) -> None:
    after = tiny_network.edge_successors
    for route in plausible_routes(tiny_network, []):
        assert all(b in after[a] for a, b in pairwise(route))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "line 1: the columns"),
        ("time,lane,flow\n", "line 1: the columns"),
        ("time,edge,flow\n", "no row"),
        ("time,edge,flow\n0,A0B0\n", "line 2: 2 fields"),
        ("time,edge,flow\n0,A0B0,10\nsoon,A0B0,10\n", "line 3: time: 'soon'"),
        ("time,edge,flow\n0,nowhere,10\n", "line 2: edge: the network has no edge 'nowhere'"),
        ("time,edge,flow\n0,A0B0,-3\n", "line 2: flow: '-3'"),
        ("time,edge,flow\n0,A0B0,nan\n", "line 2: flow: 'nan'"),
        ("time,edge,flow\n0,A0B0,1\n0,A0B0,2\n", "'A0B0' was counted twice"),
        ("time,from,to,flow\n0,A0B0,A0top,1\n", "line 2: to: the network has no edge 'A0top'"),
        ("time,from,to,flow\n0,A0B0,A0A1,1\n", "line 2: to: there is no turn"),
        ('time,edge,flow\n0,"A0B0,1\n', "not readable as CSV"),
    ],
)
def test_a_wrong_file_is_told_with_line_and_field(
    tiny_network: Network, tmp_path: Path, text: str, named: str
) -> None:
    path = tmp_path / "counts.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=named) as told:
        read_counts(path, tiny_network)
    assert "counts.csv" in str(told.value)
