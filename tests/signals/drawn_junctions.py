"""Junctions drawn by netconvert, once a session: a crossroads with walkers and a T."""

from __future__ import annotations

import subprocess
import tempfile
from functools import cache
from pathlib import Path

import sumolib

from networks.graph import Network
from networks.readers.sumo import read_sumo

ARMS = {"n": (0, 200), "e": (200, 0), "s": (0, -200), "w": (-200, 0)}


@cache
def drawn_net(arms: str = "nesw", *options: str) -> Path:
    """A net of one signal, "c", with these arms: two lanes each way, the east-west street of higher priority."""
    folder = Path(tempfile.mkdtemp(prefix="junction-"))
    nodes = "".join(f'<node id="{a}" x="{ARMS[a][0]}" y="{ARMS[a][1]}" type="priority"/>' for a in arms)
    edges = "".join(
        f'<edge id="{a}{b}" from="{a}" to="{b}" numLanes="2" speed="13" priority="{7 if arm in "ew" else 5}"/>'
        for arm in arms
        for a, b in ((arm, "c"), ("c", arm))
    )
    (folder / "a.nod.xml").write_text(f'<nodes><node id="c" x="0" y="0" type="traffic_light"/>{nodes}</nodes>')
    (folder / "a.edg.xml").write_text(f"<edges>{edges}</edges>")
    net = folder / "a.net.xml"
    command = [sumolib.checkBinary("netconvert"), "-n", folder / "a.nod.xml", "-e", folder / "a.edg.xml", "-o", net]
    subprocess.run([*map(str, command), "--no-turnarounds", "true", *options], capture_output=True, check=True)
    return net


@cache
def crossroads() -> Network:
    return read_sumo(
        drawn_net("nesw", "--sidewalks.guess", "true", "--crossings.guess", "true", "--tls.allred.time", "2")
    )


@cache
def tee() -> Network:
    return read_sumo(drawn_net("esw"))


@cache
def close_pair_net() -> Path:
    """Two signals of one street, 12 m of it between their stop lines; two lanes along, one in each side street."""
    folder = Path(tempfile.mkdtemp(prefix="pair-"))
    places = {"w": (-250, 0), "a": (0, 0), "b": (26, 0), "e": (276, 0)}
    places |= {f"{k}{side}": (places[k][0], y) for k in "ab" for side, y in (("n", 250), ("s", -250))}
    nodes = "".join(
        f'<node id="{k}" x="{x}" y="{y}" type="{"traffic_light" if k in "ab" else "priority"}"/>'
        for k, (x, y) in places.items()
    )
    streets = [("w", "a", 2), ("a", "b", 2), ("b", "e", 2)] + [(k + side, k, 1) for k in "ab" for side in "ns"]
    edges = "".join(
        f'<edge id="{x}_{y}" from="{x}" to="{y}" numLanes="{lanes}" speed="13.9"/>'
        for k, m, lanes in streets
        for x, y in ((k, m), (m, k))
    )
    return convert(folder, nodes, edges)


def convert(folder: Path, nodes: str, edges: str) -> Path:
    """The net of these nodes and edges, without turnarounds."""
    (folder / "p.nod.xml").write_text(f"<nodes>{nodes}</nodes>")
    (folder / "p.edg.xml").write_text(f"<edges>{edges}</edges>")
    net = folder / "net.net.xml"
    command = [sumolib.checkBinary("netconvert"), "-n", folder / "p.nod.xml", "-e", folder / "p.edg.xml", "-o", net]
    subprocess.run([*map(str, command), "--no-turnarounds", "true"], capture_output=True, check=True)
    return net
