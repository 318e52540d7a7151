"""Sound stages that the shipped programmes lack: sets of links that may be open together because no paths meet.

Shipped stages pair opposite approaches; a controller that sees the queues does better when it may also open one
approach whole, or lanes of two approaches that overlap two stages. A lane is opened to all of its links or not at all
(turning back aside): the first driver who has red holds up everybody behind. Each left turn that no shipped stage
serves without giving way gets a stage of its own: a permissive stream that never finds its gap (far exit blocked,
opposing queue without end) can lock two junctions into each other.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

import networkx as nx
import numpy as np

from networks.graph import LEFT, U_TURN, Bools, Network, Signal
from signals.rules import rules_of

MOST_STAGES = 40
_MOST_SETS = 2000  # large signals have endlessly many; these are looked through


def further_stages(network: Network, signal: Signal) -> tuple[str, ...]:
    """States of the further stages, those that open most lanes first. Crossings stay red in them."""
    vehicle = [k for k in range(signal.link_count) if signal.link_movements[k]]
    turn = {k: int(network.movements.turn[signal.link_movements[k][0]]) for k in vehicle}
    lanes: dict[int, list[int]] = {}
    for k in vehicle:
        lanes.setdefault(int(network.movements.from_lane[signal.link_movements[k][0]]), []).append(k)
    onward = {a: [k for k in links if turn[k] != U_TURN] or links for a, links in lanes.items()}
    apart = signal.foes | signal.foes.T | signal.conflicts | signal.conflicts.T
    sound = [a for a, links in onward.items() if not apart[np.ix_(links, links)].any()]
    together: nx.Graph[int] = nx.Graph()
    together.add_nodes_from(sound)
    together.add_edges_from(
        (a, b) for a in sound for b in sound if a < b and not apart[np.ix_(onward[a], onward[b])].any()
    )
    sets = sorted((sorted(found) for found in islice(nx.find_cliques(together), _MOST_SETS)), key=_by_size)
    seeds = [[k for a in found for k in onward[a]] for found in sets[:MOST_STAGES]]
    seeds += [[k] for k in vehicle if turn[k] in (LEFT, U_TURN) and not _is_protected_somewhere(signal, k)]
    arrows = rules_of(signal).shipped_other
    states = []
    for seed in seeds:
        opened = _completed(seed, vehicle, apart)
        states.append(
            "".join("G" if k in opened else "s" if "s" in arrows[k] else "r" for k in range(signal.link_count))
        )
    return tuple(dict.fromkeys(states))


def _by_size(lanes: list[int]) -> tuple[int, list[int]]:
    return -len(lanes), lanes


def _completed(seed: Iterable[int], vehicle: Iterable[int], apart: Bools) -> set[int]:
    """The seed and whatever fits."""
    members = list(seed)
    for k in vehicle:
        if k not in members and not apart[k, members].any():
            members.append(k)
    return set(members)


def _is_protected_somewhere(signal: Signal, link: int) -> bool:
    """Does some shipped stage open the link as G with every foe closed?"""
    for stage in signal.stages:
        others = [k for k, lamp in enumerate(stage.state[: signal.link_count]) if lamp in "Gg" and k != link]
        if stage.state[link] == "G" and not signal.foes[link, others].any():
            return True
    return False
