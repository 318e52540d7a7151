"""Two signals a few vehicles apart, planned as one.

What lies between them holds so little that a driver who has to stop there stands across the junction behind him. Two
plans that know of each other only by promises let left turns of both directions in, each queue in the way of the
other for good. Planned as one, the lane between is a queue of the same junction: who comes in is followed to its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from networks.graph import VEHICLE_SPACE_M, Bools, Crossing, Floats, Network, Programme, Signal
from signals.controllers import junction_choice_kernels as kernels
from signals.controllers.junction_choice import JunctionModel, model_signal
from signals.lamps import LampRecord

T = TypeVar("T", bound=np.generic)

COUPLED_VEH = 4.0  # vehicles that a lane between two signals holds: with fewer they are planned as one
MOST_TOGETHER = 144  # stages of both, all combinations
# With less room on a lane between two signals the second who stops there stands across the junction behind; the third
# with less than the second. What is known of turns decides which of them to fear.
ROOM_GUESSED_VEH, ROOM_KNOWN_VEH = 2.0, 2.5
TAKEN_VEH, FULL_VEH = 0.5, 1.5  # on a lane: somebody is there, the next will stand across


@dataclass(frozen=True, slots=True)
class Knots:
    """How two signals can lock: queues of both directions between them, each standing across the other's way on.

    A direction is at risk under a stage that lets vehicles onto its lanes without a protected way on for all who may
    stand there: if all can be served so, for those as well who come on one lane and need another, to which nothing
    led from where they were. One direction at risk ties no knot: as long as nobody of the other stands across its
    way, it empties.
    """

    lanes: tuple[NDArray[np.int32], NDArray[np.int32]]  # dense, of either direction
    at_risk: Bools  # (2, S)

    def open_stages(self, vehicles: Floats, *, guesses: bool) -> Bools:
        """(S,) stages that tie no knot. `vehicles` (dense lanes): how many are on each lane now.

        Where turns are guessed nobody is let in against somebody; where they are known, and roll-outs follow vehicles
        to their end, not against a lane that is full.
        """
        one, other = self.at_risk
        answer: Bools = ~(one & other) if guesses else np.ones(len(one), np.bool_)
        least = TAKEN_VEH if guesses else FULL_VEH
        taken = [bool((vehicles[lanes] >= least).any()) for lanes in self.lanes]
        stricter = answer & ~(taken[0] & other) & ~(taken[1] & one)
        return stricter if stricter.any() else answer


def find_pairs(network: Network, models: Sequence[JunctionModel]) -> list[tuple[int, int]]:
    """Signals to be planned as one, those with the least between them first; no signal twice."""
    owner = {int(lane): index for index, model in enumerate(models) for lane in model.lanes}
    room: dict[tuple[int, int], float] = {}
    for index, model in enumerate(models):
        for lane in map(int, model.outs):
            other = owner.get(lane, index)
            if other != index:
                key = (min(index, other), max(index, other))
                room[key] = min(room.get(key, np.inf), float(network.lanes.length_m[lane]) / VEHICLE_SPACE_M)
    pairs: list[tuple[int, int]] = []
    taken: set[int] = set()
    for pair in sorted(room, key=lambda pair: (room[pair], pair)):
        if room[pair] < COUPLED_VEH and not taken & set(pair) and _may_join(models[pair[0]], models[pair[1]]):
            pairs.append(pair)
            taken |= set(pair)
    return pairs


def _may_join(a: JunctionModel, b: JunctionModel) -> bool:
    counts = len(a.stage_states), len(b.stage_states)
    alike = np.ceil(a.signal.yellow_s) == np.ceil(b.signal.yellow_s)
    return bool(alike and min(counts) > 1 and counts[0] * counts[1] <= MOST_TOGETHER)


def join_models(network: Network, a: JunctionModel, b: JunctionModel) -> JunctionModel:
    """One model of both; its links and streams are those of the first, then those of the second."""
    signal = join_signals(a.signal, b.signal)
    states = tuple(x[: a.signal.link_count] + y for x, y in product(a.stage_states, b.stage_states))
    return model_signal(network, signal, states)


def find_knots(network: Network, model: JunctionModel, links_of_first: int, room_veh: float) -> Knots | None:
    """Of two signals planned as one, the first with so many links; None where they cannot lock.

    `room_veh`: lanes between them that hold fewer vehicles are too short to wait on.
    """
    layout, links = model.layout, model.link_of
    freedom = 2 * (layout.stages == kernels.PROTECTED) + (layout.stages == kernels.PERMISSIVE)
    short = np.flatnonzero((layout.lane_out >= 0) & (layout.storage_veh < room_veh))
    streams = {int(lane): np.flatnonzero(layout.link_lane == lane) for lane in short}
    feeds = {int(lane): np.flatnonzero(layout.link_out == layout.lane_out[lane]) for lane in short}
    sides = [[x for x in streams if (links[streams[x][0]] < links_of_first) == first] for first in (True, False)]

    def ways_across(ways: NDArray[np.int64], others: Sequence[int]) -> Bools:
        """Which of the ways meet one of those on which vehicles come onto the other lanes."""
        come = np.concatenate([feeds[x] for x in others])
        return np.asarray(model.signal.foes[np.ix_(links[ways], links[come])].any(axis=1))

    if not all(sides):
        return None
    held = [[x for x in own if ways_across(streams[x], other).any()] for own, other in (sides, sides[::-1])]
    if not all(held):
        return None
    edge = network.lanes.edge
    origin = edge[network.movements.from_lane[model.movement]]  # (K,)

    def who_is_at_risk(*, changing: bool) -> Bools:
        """(2, S); `changing`: with those who have to change lanes there."""
        answer = np.zeros((2, len(freedom)), np.bool_)
        for d, x, k in [(side, lane, way) for side in (0, 1) for lane in held[side] for way in feeds[lane]]:
            beside = [y for y in sides[d] if y != x and edge[model.lanes[y]] == edge[model.lanes[x]]]
            needed = [x, *(y for y in beside if changing and origin[k] not in origin[feeds[y]])]
            way_on = freedom[:, np.concatenate([streams[y] for y in needed])].min(axis=1)
            comes = freedom[:, k] > 0
            answer[d] |= comes & (way_on < way_on[comes].max(initial=0))
        return answer

    at_risk = who_is_at_risk(changing=True)
    come = np.concatenate([feeds[x] for own in held for x in own])
    if not (freedom[~at_risk.any(axis=0)][:, come] > 0).any(axis=0).all():  # somebody could never come without a risk
        at_risk = who_is_at_risk(changing=False)
    if not at_risk.any(axis=1).all():
        return None
    return Knots((model.lanes[held[0]], model.lanes[held[1]]), at_risk)


def join_signals(a: Signal, b: Signal) -> Signal:
    """One signal with the links of both, which never meet each other. Its programmes are the phases of each alone."""
    return Signal(
        id=f"{a.id} + {b.id}",
        nodes=(*a.nodes, *b.nodes),
        link_count=a.link_count + b.link_count,
        link_movements=(*a.link_movements, *b.link_movements),
        crossings=(*a.crossings, *(_shifted(c, a.link_count) for c in b.crossings)),
        programmes=(
            *(_padded(p, a.link_count, 0, b.link_count) for p in a.programmes),
            *(_padded(p, b.link_count, a.link_count, 0) for p in b.programmes),
        ),
        stages=(),
        foes=_block(a.foes, b.foes),
        conflicts=_block(a.conflicts, b.conflicts),
        intergreen_s=_block(a.intergreen_s, b.intergreen_s),
        yellow_s=max(a.yellow_s, b.yellow_s),
        all_red_s=max(a.all_red_s, b.all_red_s),
        min_green_s=np.concatenate([a.min_green_s, b.min_green_s]),
        max_red_s=min(a.max_red_s, b.max_red_s),
        pedestrian=np.concatenate([a.pedestrian, b.pedestrian]),
        pedestrian_clearance_s=np.concatenate([a.pedestrian_clearance_s, b.pedestrian_clearance_s]),
    )


def join_records(records: Sequence[LampRecord]) -> LampRecord:
    return LampRecord(
        max(r.at_s for r in records),
        "".join(r.state for r in records),
        np.concatenate([r.since_s for r in records]),
        np.concatenate([r.green_from_s for r in records]),
        np.concatenate([r.green_until_s for r in records]),
    )


def _shifted(crossing: Crossing, by: int) -> Crossing:
    return replace(crossing, links=tuple(link + by for link in crossing.links))


def _padded(programme: Programme, width: int, before: int, after: int) -> Programme:
    phases = tuple(
        replace(phase, state="r" * before + phase.state[:width] + "r" * after) for phase in programme.phases
    )
    return replace(programme, phases=phases)


def _block(a: NDArray[T], b: NDArray[T]) -> NDArray[T]:
    """Both on the diagonal, nothing beside."""
    whole = np.zeros((len(a) + len(b), len(a) + len(b)), a.dtype)
    whole[: len(a), : len(a)] = a
    whole[len(a) :, len(a) :] = b
    return whole
