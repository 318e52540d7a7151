"""MAP messages of roadside units -> the numbers under which their SPAT names our signals. See `numbering_of_maps`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from networks import day_one
from networks.graph import LEFT, RIGHT, STRAIGHT, U_TURN, Floats, Network
from twin.feeds.datum import Locator
from twin.feeds.rsm import absolute_position
from twin.numbering import Numbering, SignalNumbers
from twin.street_paths import StreetPaths

NEAR_M = 100.0
"""A node is the signal nearest to its reference position, when one is so near."""
_TURN_OF_BIT = {0: STRAIGHT, 1: LEFT, 2: RIGHT, 3: U_TURN}


class MapNumbers(NamedTuple):
    numbering: Numbering
    findings: tuple[str, ...]  # what could not be brought together, one a line


def numbering_of_maps(network: Network, messages: Sequence[bytes], *, datum: str = "wgs84") -> MapNumbers:
    """Bring the nodes of MAP messages together with our signals, and their phases with our links.

    A link of a node is our edge along which its lanes (or its own line) run; a connection is our movements from
    that edge that turn as it says. Links of ours that no connection reaches are not told (phase 0); signals that no
    message is about get node numbers of their own above all others. Raises MessageError for a message that is none.
    """
    locator, paths = Locator(network, datum), StreetPaths(network)
    middles = np.array([network.node_xy[list(s.nodes)].mean(axis=0) for s in network.signals]).reshape(-1, 2)
    told: dict[int, SignalNumbers] = {}
    findings: list[str] = []
    for message in messages:
        kind, value = day_one.decode(message)
        for node in value["nodes"] if kind == "MAP" else ():
            name = f"node {node['id'].get('region', '-')}/{node['id']['id']}"
            x_m, y_m = locator.place(*_degrees([node["refPos"]]))
            far_m = np.hypot(middles[:, 0] - x_m[0], middles[:, 1] - y_m[0])
            if not far_m.min(initial=np.inf) <= NEAR_M:
                findings.append(f"{name}: no signal of ours within {NEAR_M:g} m")
                continue
            signal = int(far_m.argmin())
            if signal in told:
                findings.append(f"{name}: signal {network.signals[signal].id!r} has a node already")
                continue
            groups, missed = _groups(network, signal, node, locator, paths)
            findings += [f"{name}: {what}" for what in missed]
            told[signal] = SignalNumbers(node["id"]["id"], node["id"].get("region"), groups)
    free = 1 + max((numbers.node for numbers in told.values()), default=0)
    links = [signal.link_count for signal in network.signals]
    signals = [told.get(i) or SignalNumbers(free + i, None, (0,) * count) for i, count in enumerate(links)]
    return MapNumbers(Numbering(network, signals), tuple(findings))


def _groups(
    network: Network, signal: int, node: Mapping[str, Any], locator: Locator, paths: StreetPaths
) -> tuple[tuple[int, ...], list[str]]:
    """Phase of each of our links, and what of the node found no place."""
    moves, lanes = network.movements, network.lanes
    own = np.flatnonzero(moves.signal == signal)
    approaches = set(lanes.edge[moves.from_lane[own]].tolist())
    groups = [0] * network.signals[signal].link_count
    missed: list[str] = []
    for number, link in enumerate(node.get("inLinks", ())):
        edge = _edge_of(link, node["refPos"], locator, paths, approaches)
        if edge < 0:
            missed.append(f"link {number}: runs along no approach of the signal")
            continue
        mine = own[lanes.edge[moves.from_lane[own]] == edge]
        for lane in link["lanes"]:
            for connection in lane.get("connectsTo", ()):
                if "phaseId" not in connection:
                    continue
                turns = _turns(connection.get("connectingLane", {}).get("maneuver") or lane.get("maneuvers"))
                reached = {int(moves.link[row]) for row in mine if int(moves.turn[row]) in turns}
                if not reached:
                    missed.append(f"link {number}, lane {lane['laneID']}: no movement of ours turns so")
                for ours in reached:
                    if groups[ours] not in (0, connection["phaseId"]):
                        missed.append(f"link {number}, lane {lane['laneID']}: two phases for one lamp of ours")
                        continue
                    groups[ours] = connection["phaseId"]
    return tuple(groups), missed


def _edge_of(
    link: Mapping[str, Any],
    reference: Mapping[str, Any],
    locator: Locator,
    paths: StreetPaths,
    approaches: set[int],
) -> int:
    """The approach along which most of a link's lines run, -1 none."""
    lines = [lane["points"] for lane in link["lanes"] if "points" in lane]
    lines += [link["points"]] if "points" in link else []
    votes: dict[int, int] = {}
    for line in lines:
        points = [dict(zip(("long", "lat"), absolute_position(p["posOffset"], reference), strict=True)) for p in line]
        x_m, y_m = locator.place(*_degrees(points))
        for edge in paths.along(x_m, y_m):
            if edge in approaches:
                votes[edge] = votes.get(edge, 0) + 1
    return max(votes, key=lambda edge: votes[edge]) if votes else -1


def _turns(manoeuvres: tuple[bytes, int] | None) -> set[int]:
    if manoeuvres is None:
        return set()
    bits = int.from_bytes(manoeuvres[0][:2], "big")
    return {turn for bit, turn in _TURN_OF_BIT.items() if bits >> (15 - bit) & 1}


def _degrees(points: Sequence[Mapping[str, int]]) -> tuple[Floats, Floats]:
    table = np.array([(point["long"], point["lat"]) for point in points], np.float64) * day_one.ANGLE_UNIT_DEG
    return table[:, 0], table[:, 1]
