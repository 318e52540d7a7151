"""A programme as the stages that engineers talk of, and the change of lamps after each.

A stage is a step that shows green and no yellow. What follows it up to the next stage is its change: the yellows and
all-reds, and the short pause in which one stream is cleared while others keep their green. The *standard* change,
which sheets and controllers assume, closes every stream that the next stage does not serve: yellow, then all red.
Walkers turn red at once, unless only they are closed: then their clearance stands as yellow.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from networks.graph import Programme, ProgrammePhase, Signal
from signals.lamps import ARROW, GREEN, YELLOW

CLEARANCE_MOST_S = 5.0  # a pause after yellow that opens nothing, and is no longer, belongs to the change


@dataclass(frozen=True, slots=True)
class StageRow:
    """One stage: its lamps and green, and the steps that lead to the next."""

    green: ProgrammePhase
    change: tuple[ProgrammePhase, ...]

    @property
    def yellow_s(self) -> float:
        return sum(p.duration_s for p in self.change if _has_yellow(p.state))

    @property
    def all_red_s(self) -> float:
        return sum(p.duration_s for p in self.change if not _has_yellow(p.state))


def stage_rows(programme: Programme) -> tuple[float, tuple[StageRow, ...]]:
    """The stages in order, and the seconds of the cycle before the first one begins.

    A programme that begins in the middle of a change is turned: its rows with the offset later by those seconds show
    the same lamps at every moment. Without any stage the first step stands for one.
    """
    phases = programme.phases
    if not phases:
        return 0.0, ()
    starts = [n for n in range(len(phases)) if _is_stage(phases, n)] or [0]
    turned = phases[starts[0] :] + phases[: starts[0]]
    marks = [n - starts[0] for n in starts] + [len(phases)]
    rows = tuple(StageRow(turned[begin], turned[begin + 1 : end]) for begin, end in pairwise(marks))
    return sum(p.duration_s for p in phases[: starts[0]]), rows


def phases_of(rows: Sequence[StageRow]) -> tuple[ProgrammePhase, ...]:
    return tuple(phase for row in rows for phase in (row.green, *row.change))


def standard_change(
    now: str, following: str, pedestrian: Collection[int], *, yellow_s: float, all_red_s: float
) -> tuple[ProgrammePhase, ...]:
    """The change that a sheet or a controller assumes between two stages; `pedestrian`: links of walkers."""
    closing = {
        k for k, (lamp, then) in enumerate(zip(now, following, strict=True)) if lamp in GREEN and then not in GREEN
    }
    at_once = set(pedestrian) & closing if closing - set(pedestrian) else set()
    yellow, red = list(now), list(now)
    for link in closing:
        red[link] = following[link] if following[link] == ARROW else "r"  # a turn on red goes on at once
        yellow[link] = "r" if link in at_once else "y"
    steps = (("".join(yellow), yellow_s), ("".join(red), all_red_s))
    return tuple(ProgrammePhase(state, s, s, s) for state, s in steps if s > 0.0)


def standard_change_at(
    now: str, following: str, signal: Signal, yellow_s: float, all_red_s: float
) -> tuple[ProgrammePhase, ...]:
    """The standard change at a signal, whose links of walkers it knows."""
    walkers = {int(link) for link in np.flatnonzero(signal.pedestrian)}
    return standard_change(now, following, walkers, yellow_s=yellow_s, all_red_s=all_red_s)


def _is_stage(phases: Sequence[ProgrammePhase], n: int) -> bool:
    state, before, after = phases[n].state, phases[n - 1].state, phases[(n + 1) % len(phases)].state
    if not set(state) & set(GREEN) or _has_yellow(state):
        return False
    opened = any(new in GREEN and old not in GREEN for old, new in zip(before, state, strict=True))
    leads_on = any(new in GREEN and old not in GREEN for old, new in zip(state, after, strict=True))
    clears = _has_yellow(before) and not opened and leads_on and not _has_yellow(after)
    return not (clears and phases[n].duration_s <= CLEARANCE_MOST_S)


def _has_yellow(state: str) -> bool:
    return bool(set(state) & set(YELLOW + "uU"))
