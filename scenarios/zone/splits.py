"""Green times of a zone junction: Webster's method under the minimum times of walkers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from networks.graph import Signal
from scenarios.zone.layout import Leg, opposite
from scenarios.zone.parameters import ZoneParameters
from scenarios.zone.stages import SignalLink, ZoneStage

START_LOSS_S = 2.0  # usual start-up lost time (HCM)
UNUSED_YELLOW_S = 1.0  # part of the yellow that nobody uses
PERMISSIVE_FACTOR = 0.5  # of the saturation flow, for left turns that wait for gaps: a cautious middle value

Flows = Mapping[tuple[str, str], float]  # (side, turn) -> veh/h


@dataclass(frozen=True, slots=True)
class Junction:
    """All that timing needs to know of one junction."""

    signal: Signal
    legs: dict[str, Leg]
    lanes: dict[str, int]  # motor lanes at each stop line
    links: tuple[SignalLink, ...]
    stages: tuple[ZoneStage, ...]
    flows: Flows
    yellow_s: int
    all_red_s: int

    @property
    def intergreen_s(self) -> int:
        return self.yellow_s + self.all_red_s


def flow_ratios(junction: Junction, p: ZoneParameters) -> tuple[float, ...]:
    """Critical flow ratio of every stage: what share of the hour its busiest lane group needs.

    A group open in two stages counts in the first for what the second does not serve.
    """
    ratios: list[float] = []
    for i, stage in enumerate(junction.stages):
        worst = 0.0
        for side in junction.legs:
            for turns, lanes, saturation in _lane_groups(junction, side, stage, p):
                need = sum(junction.flows.get((side, t), 0.0) for t in turns) / (lanes * saturation)
                if i and all((side, t) in junction.stages[i - 1].movements for t in turns):
                    need -= ratios[i - 1]
                worst = max(worst, need)
        ratios.append(worst)
    return tuple(ratios)


def _lane_groups(
    junction: Junction, side: str, stage: ZoneStage, p: ZoneParameters
) -> list[tuple[tuple[str, ...], int, float]]:
    """(turns, lanes, saturation flow of one lane) of the lane groups of one approach that are open."""
    open_turns = {t for s, t in stage.movements if s == side}
    has_left = any((side, "l") in other.movements for other in junction.stages)
    groups: list[tuple[tuple[str, ...], int, float]] = []
    if "s" in open_turns:
        turns = ("s", "r") if "r" in open_turns else ("s",)
        groups.append((turns, junction.lanes[side] - has_left, p.saturation_through_vph))
    elif "r" in open_turns:
        groups.append((("r",), 1, p.saturation_turn_vph))
    if "l" in open_turns:
        permissive = (opposite(side), "s") in stage.movements
        groups.append((("l",), 1, p.saturation_turn_vph * (PERMISSIVE_FACTOR if permissive else 1.0)))
    return groups


def clearance_s(junction: Junction, stage: ZoneStage) -> int:
    """Seconds a walker needs who steps off at the last moment of the stage's walking green."""
    longest = 0.0
    for k, link in enumerate(junction.links):
        if not link.turn and link.side in stage.crossings:
            longest = max(longest, float(junction.signal.pedestrian_clearance_s[k]))
    return math.ceil(longest)


def walk_tail_s(junction: Junction, stage: ZoneStage) -> int:
    """Least vehicle green after the walkers' own yellow, so that they are across before the next stage opens."""
    return max(1, clearance_s(junction, stage) - junction.yellow_s - junction.intergreen_s)


def least_greens(junction: Junction, p: ZoneParameters) -> tuple[int, ...]:
    return tuple(
        max(p.min_green_s, p.walk_green_s + junction.yellow_s + walk_tail_s(junction, stage))
        if stage.crossings
        else p.min_green_s
        for stage in junction.stages
    )


def webster_cycle_s(junction: Junction, p: ZoneParameters) -> float:
    """Webster (1958): C = (1.5 L + 5) / (1 - Y), infinite when the junction is over capacity."""
    lost_s = len(junction.stages) * (START_LOSS_S + UNUSED_YELLOW_S + junction.all_red_s)
    load = sum(flow_ratios(junction, p))
    return (1.5 * lost_s + 5.0) / (1.0 - load) if load < 1.0 else math.inf


def least_cycle_s(junction: Junction, p: ZoneParameters) -> int:
    return sum(least_greens(junction, p)) + len(junction.stages) * junction.intergreen_s


def common_cycle_s(junctions: Sequence[Junction], p: ZoneParameters) -> int:
    """One even cycle for all, so that greens can follow each other along a street."""
    wanted = float(np.quantile([min(webster_cycle_s(j, p), p.cycle_s[1]) for j in junctions], p.cycle_quantile))
    least = max(least_cycle_s(j, p) for j in junctions)
    cycle = max(min(max(wanted, p.cycle_s[0]), p.cycle_s[1]), least)
    return 2 * math.ceil(cycle / 2)


def greens_s(junction: Junction, cycle_s: int, p: ZoneParameters) -> tuple[int, ...]:
    """Whole seconds of green a stage: in proportion to the flow ratios, never below the least."""
    least = np.array(least_greens(junction, p))
    ratios = np.maximum(flow_ratios(junction, p), 0.02)
    free = cycle_s - len(least) * junction.intergreen_s
    held = np.zeros(len(least), bool)
    share = ratios / ratios.sum() * free
    while np.any((share < least) & ~held):
        held |= share < least
        rest = free - least[held].sum()
        share = np.where(held, least, ratios / max(ratios[~held].sum(), 1e-9) * rest)
    whole = np.floor(share).astype(int)
    for i in np.argsort(whole - share, kind="stable")[: free - whole.sum()]:
        whole[i] += 1
    return tuple(int(g) for g in whole)
