"""Loops worked out from positions say what SUMO's own loops say."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from networks.city import CityFolder
from networks.graph import Network
from networks.readers.sumo import read_sumo
from scenarios.simulation import run_in_process
from tests.scenarios.loop_pairs import count_both
from tests.signals.drawn_junctions import convert


def test_counts_and_presence_agree_with_sumo(tiny_city: CityFolder, tiny_network: Network, tmp_path: Path) -> None:
    shutil.copy(tiny_city.network, tmp_path / "net.net.xml")
    table = run_in_process(count_both, tiny_network, tiny_city.routes[0], tiny_city.additional[0], tmp_path, 500)
    sumo, ours = table[:, 0], table[:, 1]
    assert sumo.sum() > 200
    assert np.abs(sumo - ours).max() <= 1  # one that changes lanes on a loop, perhaps
    assert np.abs(table[:, 2] - table[:, 3]).sum() <= 0.03 * table[:, 2].sum()


@pytest.mark.parametrize("length_m", [0.8, 8.0])
def test_a_lane_that_is_driven_over_between_two_looks_counts_as_well(length_m: float, tmp_path: Path) -> None:
    """Imported networks have approaches shorter than the way of a second; loops there are not blind."""
    nodes = "".join(
        f'<node id="{k}" x="{x}" y="{y}" type="{"traffic_light" if k == "c" else "priority"}"/>'
        for k, (x, y) in {"w": (-300, 0), "k": (-20, 0), "c": (0, 0), "e": (300, 0), "n": (0, 200)}.items()
    )
    short = f'length="{length_m}"'
    edges = "".join(
        f'<edge id="{a}{b}" from="{a}" to="{b}" numLanes="2" speed="16" {short if a + b == "kc" else ""}/>'
        for a, b in ("wk", "kc", "ce", "nc")
    )
    net, routes, nothing = convert(tmp_path, nodes, edges), tmp_path / "a.rou.xml", tmp_path / "a.add.xml"
    routes.write_text(
        '<routes><flow id="w" begin="0" end="500" period="3" from="wk" to="ce" departLane="random"/>'
        '<flow id="n" begin="0" end="500" period="9" from="nc" to="ce"/></routes>'
    )
    nothing.write_text("<additional/>")
    table = run_in_process(count_both, read_sumo(net), routes, nothing, tmp_path, 500)
    sumo, ours = table[:, 0], table[:, 1]
    assert sumo.sum() > 200
    assert (sumo == ours).all()
