"""Intergreen times between conflicting links, after RiLSA 2015 (FGSV, Guidelines for Traffic Signals), section 2.7.

From the end of green of a clearing link to the start of green of an entering one at least

    t_z = t_ue + t_r - t_e

must pass: the crossing time t_ue in which the last vehicle still enters on yellow, its time t_r = (s_0 + l) / v_r to
clear the conflict point, where the ways cross or join at distance s_0 behind the stop line, less the time
t_e = s_e / v_e that the first vehicle of the other link needs to reach it. Where the shipped programme lets one link
follow the other directly, its gap is what the road authority engineered, and stands instead; no time is longer than
any gap the shipped programme shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray

from networks.graph import Bools, Floats, Ints, Programme, ProgrammePhase

Lines = NDArray[np.object_]  # of shapely.LineString


class Motion(NamedTuple):
    """How one kind of road user clears and enters a junction (RiLSA 2015, tables 2.3 to 2.5)."""

    crossing_s: float  # t_ue
    length_m: float  # l
    clearing_mps: float  # v_r
    entering_mps: float  # v_e


STRAIGHT_ON = Motion(3.0, 6.0, 10.0, 40.0 / 3.6)
TURNING = Motion(2.0, 6.0, 7.0, 40.0 / 3.6)
CYCLING = Motion(1.0, 0.0, 4.0, 5.0)
TRAM = Motion(3.0, 15.0, 8.0, 30.0 / 3.6)
# Walkers clear at 1.0-1.2 m/s (also GB 51038); they wait at the kerb, so they enter the conflict area at once.
WALKING = Motion(0.0, 0.0, 1.2, np.inf)

MAX_COMPUTED_S = 12.0  # longer ones come from paths drawn across joined junctions, not from real clearing
MAX_ENGINEERED_S = 15.0  # a longer pause waits for something else, such as a tram
_BODY_M = 2.0  # a vehicle and a walker whose centres are no further apart meet


@dataclass(frozen=True, slots=True)
class LinkPath:
    """The way one movement or crossing of a signal link takes behind its stop line."""

    link: int
    xy: Floats  # (N, 2) centre line, from the stop line on
    motion: Motion
    half_width_m: float = 0.0  # of a crossing: its conflict area is broader than a line


def intergreen_matrix(
    conflicts: Bools,
    paths: Sequence[LinkPath],
    pedestrian: Bools,
    clearance_s: Floats,
    programme: Programme,
    yellow_s: float,
    all_red_s: float,
) -> Floats:
    """Whole seconds (K, K) from the end of green of link i to the start of green of link j, 0 without a conflict.

    Links without a path fall back to yellow plus all-red; walkers (`pedestrian`, (K,)) clear by crossing length
    (`clearance_s`, (K,)). Never below `yellow_s`, which every closing link shows.
    """
    leaving_s = np.where(pedestrian, clearance_s, yellow_s + all_red_s)
    computed_s = np.broadcast_to(leaving_s[:, None], conflicts.shape).copy()
    from_paths = _clearing_times(conflicts, paths)
    known = np.isfinite(from_paths) & ~pedestrian[:, None]
    computed_s[known] = np.minimum(from_paths[known], MAX_COMPUTED_S)
    shortest_s, direct_s = shipped_gaps(conflicts, programme)
    seconds = np.where(direct_s <= MAX_ENGINEERED_S, direct_s, np.minimum(np.ceil(computed_s - 1e-9), shortest_s))
    return np.where(conflicts, np.maximum(np.ceil(seconds - 1e-9), np.ceil(yellow_s)), 0.0)


def _clearing_times(conflicts: Bools, paths: Sequence[LinkPath]) -> Floats:
    """t_z of each conflicting pair of links (K, K), -inf where a path is missing."""
    result = np.full(conflicts.shape, -np.inf)
    if not paths:
        return result
    lines = np.array([shapely.LineString(p.xy) for p in paths], dtype=object)
    link = np.array([p.link for p in paths])
    motion = np.array([p.motion for p in paths])
    half_m = np.array([p.half_width_m for p in paths])
    i, j = np.nonzero(conflicts[link[:, None], link[None, :]])
    pair, along_i_m, along_j_m = _meetings(lines[i], lines[j], half_m[i] + half_m[j])
    i, j = i[pair], j[pair]
    clear_s = (along_i_m + motion[i, 1]) / motion[i, 2]
    needed_s = motion[i, 0] + clear_s - along_j_m / motion[j, 3]
    np.maximum.at(result, (link[i], link[j]), needed_s)
    return result


def _meetings(clearing: Lines, entering: Lines, width_m: Floats) -> tuple[Ints, Floats, Floats]:
    """Conflict points of pairs of ways: the pair, the way to it behind the first and the second stop line, in m each.

    Two ways of vehicles meet where their centre lines cross or come together; nearest to each other where they do
    neither. Of a crossing (`width_m` > 0) every point of the area counts that walkers and vehicles may share.
    """
    wide = width_m > 0
    area = entering.copy()
    area[wide] = shapely.buffer(entering[wide], width_m[wide] + _BODY_M, cap_style="flat")
    shared = shapely.intersection(clearing, area)
    apart = shapely.is_empty(shared)
    shared[apart] = shapely.shortest_line(clearing[apart], entering[apart])
    xy, pair = shapely.get_coordinates(shared, return_index=True)
    point = shapely.points(xy)
    along_i_m = shapely.line_locate_point(clearing[pair], point)
    along_j_m = shapely.line_locate_point(entering[pair], point)
    # Where both run along a stretch together, its begin is the conflict point.
    together = (shapely.get_dimensions(shared) == 1) & ~wide
    begins_m = np.full(len(shared), np.inf)
    np.minimum.at(begins_m, pair, along_i_m)
    counts = ~together[pair] | (along_i_m <= begins_m[pair])
    return pair[counts], along_i_m[counts], along_j_m[counts]


def shipped_gaps(conflicts: Bools, programme: Programme) -> tuple[Floats, Floats]:
    """What a cycle of a programme shows between the end of green of i and the next start of green of j, (K, K) each.

    First the shortest such gap, inf where there is none. Second the engineered one, NaN where there is none: no other
    link closed and none in conflict with i opened in between, so the gap is there for this very pair.
    """
    count = len(conflicts)
    shortest_s, direct_s = np.full((count, count), np.inf), np.full((count, count), np.nan)
    phases = _timed(programme)
    if not phases:
        return shortest_s, direct_s
    green: Bools = np.array([[c in "Gg" for c in p.state[:count]] for p in phases], dtype=np.bool_)
    before = np.roll(green, 1, axis=0)
    closes, opens = before & ~green, green & ~before
    begins_s = np.concatenate([[0.0], np.cumsum([p.duration_s for p in phases * 2])])
    to_opening = _steps_until(opens)
    to_next_opening = 1 + np.roll(to_opening, -1, axis=0)
    to_next_closing = 1 + np.roll(_steps_until(np.asarray(closes.any(axis=1))[:, None]), -1, axis=0)
    for phase, i in np.argwhere(closes):
        steps, foes = to_opening[phase], conflicts[i]
        found = foes & (steps < len(phases))
        gap_s = begins_s[phase + np.where(found, steps, 0)] - begins_s[phase]
        shortest_s[i, found] = np.minimum(shortest_s[i], gap_s)[found]
        last = min(int(to_next_closing[phase, 0]), int(to_next_opening[phase, foes].min(initial=len(phases))))
        direct = found & (steps <= last)
        direct_s[i, direct] = np.fmin(direct_s[i], gap_s)[direct]
    return shortest_s, direct_s


def longest_yellow_s(programme: Programme) -> float:
    """Yellow of a programme, 0 where it shows none: of each phase the shortest yellow in it, of these the longest.

    A link's yellow counts from its begin to its end: it goes through several phases where links close one after the
    other.
    """
    phases = _timed(programme)
    if not phases:
        return 0.0
    lasts_s = _lasting_s(np.array([[c in "yY" for c in p.state] for p in phases], np.bool_), phases)
    lasts_s[lasts_s == 0.0] = np.inf
    each_s = lasts_s.min(axis=1, initial=np.inf)
    return float(each_s[np.isfinite(each_s)].max(initial=0.0))


def longest_all_red_s(programme: Programme) -> float:
    """The longest time in which a programme shows every lamp red, 0 where it never does."""
    phases = _timed(programme)
    if not phases:
        return 0.0
    return float(_lasting_s(np.array([[not set(p.state) & set("GgyYuo")] for p in phases], np.bool_), phases).max())


def _timed(programme: Programme) -> list[ProgrammePhase]:
    return [p for p in programme.phases if p.duration_s > 0]


def _lasting_s(lit: Bools, phases: Sequence[ProgrammePhase]) -> Floats:
    """(P, columns) how long what is lit in a phase lasts without a break, 0 where it is not, or never ends."""
    seconds, answer = np.array([p.duration_s for p in phases]), np.zeros(lit.shape)
    begins = np.asarray(lit & ~np.roll(lit, 1, axis=0))
    lasts = _steps_until(~lit)
    for phase, column in np.argwhere(begins):
        run = (phase + np.arange(lasts[phase, column])) % len(phases)
        answer[run, column] = seconds[run].sum()
    return answer


def _steps_until(event: Bools) -> Ints:
    """Phases from each phase (P, K) to the next event, cyclic: 0 where it is now, P or more where there is none."""
    count = len(event)
    steps = np.empty(event.shape, np.int32)
    ahead = np.full(event.shape[1], 2 * count, np.int32)
    for phase in range(2 * count - 1, -1, -1):
        ahead = np.where(event[phase % count], 0, ahead + 1).astype(np.int32)
        steps[phase % count] = ahead
    return steps
