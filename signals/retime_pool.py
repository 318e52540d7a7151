"""Stages that a signal may use beyond those its shipped programmes show, built from the conflict matrix.

Each is grown from a seed (an approach, two approaches, a left turn): links join in order of their flow as long as
the safety rules let them stand together. A *protected* stage holds no foes at all; a *yielding* one also holds foes
that some shipped phase opens together, with the priorities shown there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Literal

import numpy as np

from networks.graph import LEFT, U_TURN, Floats, Network, Signal
from signals.lamps import GREEN
from signals.rules import SignalRules, rules_of

StageSource = Literal["shipped", "built", "chinese"]

MOST_STAGES = 16  # of a pool: more slow the search down and are never used


def stage_pool(network: Network, signal: Signal, link_vps: Floats, source: StageSource) -> tuple[str, ...]:
    """States that may be stages, shipped ones first.

    `chinese`: shipped or built, but every left turn that shows green has no opposing stream to give way to.
    """
    shipped = [stage.state for stage in signal.stages]
    if source == "shipped":
        return tuple(shipped)
    built = _built(network, signal, link_vps, yielding=source == "built")
    if source == "chinese":
        shipped = [state for state in shipped if not _left_yields(network, signal, state)] or shipped
    return tuple(dict.fromkeys([*shipped, *built]))[: max(MOST_STAGES, len(shipped))]


def _built(network: Network, signal: Signal, link_vps: Floats, *, yielding: bool) -> Iterable[str]:
    movements = network.movements
    vehicle = [k for k in range(signal.link_count) if signal.link_movements[k]]
    first = {k: signal.link_movements[k][0] for k in vehicle}
    approach: dict[int, list[int]] = {}
    for k in vehicle:
        approach.setdefault(int(network.lanes.edge[movements.from_lane[first[k]]]), []).append(k)
    lefts = {
        edge: [k for k in links if movements.turn[first[k]] in (LEFT, U_TURN)] for edge, links in approach.items()
    }
    sides = [links for links in approach.values() if links]
    seeds = [a + b for a, b in combinations(sides, 2)] if yielding else []
    seeds += sides
    seeds += [a + b for a, b in combinations([x for x in lefts.values() if x], 2)]
    seeds += [x for x in lefts.values() if x]
    order = sorted(range(signal.link_count), key=lambda k: (-link_vps[k], k))
    for protected in (False, True) if yielding else (True,):
        for seed in seeds:
            state = grow(signal, seed, order, protected=protected)
            if state:
                yield state


def grow(signal: Signal, seed: Sequence[int], order: Sequence[int], *, protected: bool) -> str:
    """A stage with the seed and whatever else fits, "" when the seed does not fit together."""
    rules = rules_of(signal)
    apart = rules.meets if protected else rules.conflicts
    if apart[np.ix_(seed, seed)].any():
        return ""
    members = list(seed)
    for k in order:
        if k not in members and rules.served[k] and not apart[k, members].any():
            wider = [*members, k]
            if protected or _letters(rules, wider):
                members = wider
    letters = dict.fromkeys(members, "G") if protected else _letters(rules, members)
    return (
        "".join(letters.get(k, "s" if "s" in rules.shipped_other[k] else "r") for k in range(signal.link_count))
        if letters
        else ""
    )


def _letters(rules: SignalRules, members: Sequence[int]) -> dict[int, str]:
    """G or g for each member, {} when the priorities that shipped phases show do not fit together."""
    letters = dict.fromkeys(members, "G")
    for _ in members:
        weak = [
            (a, b)
            for a, b in combinations(members, 2)
            if rules.meets[a, b] and letters[a] == letters[b] == "G" and not rules.both_major[a, b]
        ]
        if not weak:
            return letters
        for a, b in weak:
            if rules.major_minor[a, b]:
                letters[b] = "g"
            elif rules.major_minor[b, a]:
                letters[a] = "g"
            else:
                return {}
    return {}


def _left_yields(network: Network, signal: Signal, state: str) -> bool:
    open_links = [k for k in range(signal.link_count) if state[k] in GREEN]
    return any(
        state[k] == "g" and network.movements.turn[m[0]] == LEFT
        for k in open_links
        if (m := signal.link_movements[k])
    )
