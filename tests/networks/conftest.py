"""Small networks drawn from a few nodes and edges."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import sumolib

DrawNet = Callable[..., Path]


@pytest.fixture
def draw_net(tmp_path: Path) -> DrawNet:
    """draw_net({"a": (0, 0, "priority"), ...}, {"ab": ("a", "b", lanes, speed_mps), ...}, *netconvert options)."""

    def draw(
        nodes: dict[str, tuple[float, float, str]],
        edges: dict[str, tuple[str, str, int, float]],
        *options: str,
        connections: str = "",
    ) -> Path:
        nod, edg, con, net = (tmp_path / name for name in ("a.nod.xml", "a.edg.xml", "a.con.xml", "a.net.xml"))
        places = [f'<node id="{k}" x="{x}" y="{y}" type="{kind}"/>' for k, (x, y, kind) in nodes.items()]
        roads = [
            f'<edge id="{k}" from="{a}" to="{b}" numLanes="{lanes}" speed="{speed}" priority="5"/>'
            for k, (a, b, lanes, speed) in edges.items()
        ]
        nod.write_text(f"<nodes>{''.join(places)}</nodes>")
        edg.write_text(f"<edges>{''.join(roads)}</edges>")
        con.write_text(f"<connections>{connections}</connections>")
        command = [sumolib.checkBinary("netconvert"), "-n", nod, "-e", edg, "-x", con, "-o", net, *options]
        subprocess.run([str(part) for part in command], capture_output=True, check=True)
        return net

    return draw


def four_arms(
    centre: str, lanes: int = 2, speed_mps: float = 16.7
) -> tuple[dict[str, tuple[float, float, str]], dict[str, tuple[str, str, int, float]]]:
    """A crossroads of two two-way streets 200 m long each way; `centre` is the SUMO type of its junction."""
    ends = {"n": (0.0, 200.0), "e": (200.0, 0.0), "s": (0.0, -200.0), "w": (-200.0, 0.0)}
    nodes = {"c": (0.0, 0.0, centre), **{k: (x, y, "priority") for k, (x, y) in ends.items()}}
    edges = {f"{k}c": (k, "c", lanes, speed_mps) for k in ends} | {f"c{k}": ("c", k, lanes, speed_mps) for k in ends}
    return nodes, edges


@pytest.fixture
def crossroads(draw_net: DrawNet) -> Callable[..., Path]:
    def draw(centre: str, *options: str, lanes: int = 2, speed_mps: float = 16.7) -> Path:
        return draw_net(*four_arms(centre, lanes, speed_mps), *options)

    return draw
