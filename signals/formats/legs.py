"""The legs of a signal as people name them: "N left, S through", from the bearing of each approach.

A leg is the set of edges that come in from one side; it is named after the side it comes *from*. Bearings are those
of the last metres before the stop line, clockwise from north (the y axis of the net).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from networks.graph import LEFT, RIGHT, STRAIGHT, U_TURN, Network, Signal

COMPASS = ("N", "NE", "E", "SE", "S", "SW", "W", "NW")
COMPASS_ZH = ("北", "东北", "东", "东南", "南", "西南", "西", "西北")
_TURNS = {LEFT: "left", STRAIGHT: "through", RIGHT: "right", U_TURN: "u-turn"}
_TURNS_ZH = {"left": "左转", "through": "直行", "right": "右转", "u-turn": "掉头", "walk": "行人"}

SAME_LEG_DEG = 25.0  # carriageways of one street, also where a turning lane is drawn as an edge of its own
_LOOK_BACK_M = 30.0


@dataclass(frozen=True, slots=True)
class Leg:
    """One side from which traffic comes."""

    name: str  # N, NE ...; numbered where several legs come from one side
    bearing_deg: float  # of the side, clockwise from north
    edges: tuple[int, ...]  # dense indices


@dataclass(frozen=True, slots=True)
class LinkUse:
    """What one link serves: movements of a leg, or walkers across it."""

    link: int
    leg: int  # index into the legs, -1 unknown
    turns: tuple[str, ...]  # left, through, right, u-turn; walk for a crossing; empty where nothing uses the link


def legs_of(signal: Signal, network: Network) -> tuple[Leg, ...]:
    """Legs clockwise from north."""
    movements, lanes = network.movements, network.lanes
    approach = sorted({int(lanes.edge[movements.from_lane[m]]) for links in signal.link_movements for m in links})
    motor = [e for e in approach if network.edges.lane_count[e] > 0] or approach
    bearings = {e: _bearing_deg(network, e) for e in motor}
    groups: list[list[int]] = []
    for edge in sorted(motor, key=lambda e: (bearings[e], e)):
        if groups and _apart_deg(bearings[groups[-1][-1]], bearings[edge]) < SAME_LEG_DEG:
            groups[-1].append(edge)
        else:
            groups.append([edge])
    if len(groups) > 1 and _apart_deg(bearings[groups[-1][-1]], bearings[groups[0][0]]) < SAME_LEG_DEG:
        groups[0] = groups.pop() + groups[0]
    middles = [_mean_deg([bearings[e] for e in group]) for group in groups]
    order = sorted(
        range(len(groups)), key=lambda g: ((middles[g] + 22.5) % 360.0, g)
    )  # N includes the north-north-west
    names: list[str] = []
    for g in order:
        name = COMPASS[round(middles[g] / 45.0) % 8]
        taken = sum(n.rstrip("23456789") == name for n in names)
        names.append(f"{name}{taken + 1}" if taken else name)
    return tuple(Leg(name, middles[g], tuple(sorted(groups[g]))) for name, g in zip(names, order, strict=True))


def uses_of(signal: Signal, network: Network, legs: Sequence[Leg]) -> tuple[LinkUse, ...]:
    """What each link serves, by link."""
    movements, lanes = network.movements, network.lanes
    leg_of = {edge: n for n, leg in enumerate(legs) for edge in leg.edges}
    walked = {link: crossing for crossing in signal.crossings for link in crossing.links}
    uses: list[LinkUse] = []
    for link, members in enumerate(signal.link_movements):
        if members:
            edges = [int(lanes.edge[movements.from_lane[m]]) for m in members]
            leg = next((leg_of[e] for e in edges if e in leg_of), -1)
            if leg < 0:  # a cycle track: the leg that comes from the same side
                leg = _nearest(legs, _bearing_deg(network, edges[0]))
            turns = {_TURNS[int(movements.turn[m])] for m in members}
            uses.append(LinkUse(link, leg, tuple(sorted(turns))))
        elif link in walked:
            crossed = [leg_of[e] for e in walked[link].edges if e in leg_of]
            leg = crossed[0] if crossed else _leg_of_exit(network, signal, legs, walked[link].edges)
            uses.append(LinkUse(link, leg, ("walk",)))
        else:
            uses.append(LinkUse(link, -1, ()))
    return tuple(uses)


def is_motor(signal: Signal, network: Network, link: int) -> bool:
    """Whether motor vehicles use a link (not only walkers or cycles)."""
    lanes, movements = network.lanes, network.movements
    return any(network.edges.lane_count[lanes.edge[movements.from_lane[m]]] > 0 for m in signal.link_movements[link])


def served_text(state: str, uses: Sequence[LinkUse], legs: Sequence[Leg], *, chinese: bool = False) -> str:
    """The movements that a lamp state opens: "N left, S through"; permissive greens in brackets."""
    shown: dict[tuple[int, str], str] = {}
    for use in uses:
        for turn in use.turns:
            lamp = state[use.link] if use.link < len(state) else "r"
            if lamp == "G" or (lamp == "g" and (use.leg, turn) not in shown):
                shown[use.leg, turn] = lamp
    for leg, turn in [key for key in shown if key[1] == "u-turn"]:
        if shown.get((leg, "left")) == shown[leg, turn]:
            del shown[leg, turn]  # goes without saying
    texts = []
    order = ("left", "through", "right", "u-turn", "walk")
    for (leg, turn), lamp in sorted(shown.items(), key=lambda item: (item[0][0], order.index(item[0][1]))):
        side = legs[leg].name if leg >= 0 else "?"
        text = _side_zh(side) + _TURNS_ZH[turn] if chinese else f"{side} {turn}"
        texts.append(f"({text})" if lamp == "g" else text)
    return ("、" if chinese else ", ").join(texts)


def _side_zh(side: str) -> str:
    bare = side.rstrip("23456789")
    return COMPASS_ZH[COMPASS.index(bare)] + side[len(bare) :] if bare in COMPASS else side


def _leg_of_exit(network: Network, signal: Signal, legs: Sequence[Leg], crossed: Sequence[int]) -> int:
    """The leg of a crossing over a road that only leaves: the one that lies where that road goes to."""
    for edge in crossed:
        node = int(network.edges.from_node[edge])
        if node in signal.nodes:
            return _nearest(legs, _bearing_deg(network, edge, leaving=True))
    return -1


def _nearest(legs: Sequence[Leg], bearing_deg: float) -> int:
    if not legs:
        return -1
    return min(range(len(legs)), key=lambda n: _apart_deg(legs[n].bearing_deg, bearing_deg))


def _bearing_deg(network: Network, edge: int, *, leaving: bool = False) -> float:
    """Side of the junction on which an edge lies, over its last metres (first, where it leaves)."""
    xy = np.asarray(network.edges.shape_xy[edge], np.float64).reshape(-1, 2)
    if leaving:
        xy = xy[::-1]
    end = xy[-1]
    away_m = np.hypot(*(xy - end).T)
    far = np.flatnonzero(away_m >= _LOOK_BACK_M)
    start = xy[far[-1]] if len(far) else xy[0]
    east, north = start - end
    return float(np.degrees(np.arctan2(east, north)) % 360.0)


def _apart_deg(a: float, b: float) -> float:
    return abs((a - b + 180.0) % 360.0 - 180.0)


def _mean_deg(bearings: Sequence[float]) -> float:
    turned = np.exp(1j * np.radians(bearings)).mean()
    return float(np.degrees(np.angle(turned)) % 360.0)
