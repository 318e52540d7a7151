"""Whoever is caught inside a junction is let out before anything that crosses his way is opened.

Stages opened across him stand in his way and he in theirs, a knot that no lamp undoes.
"""

from __future__ import annotations

import numpy as np

from networks.graph import Bools, Network
from signals.controllers.approach_rows import LaneRoom
from signals.lamps import GREEN, LampRecord
from signals.plan import LampStep
from signals.transitions import settle

CAUGHT_S = 15.0  # a link opens later by at most so much for the sake of those caught inside the junction


def find_caught(network: Network, signal: int, room: LaneRoom) -> Bools:
    """(K,) links of which somebody stands inside the junction, though there is room where he wants to go."""
    answer = np.zeros(len(network.signals[signal].link_movements), np.bool_)
    if room.caught is None:
        return answer
    moves = network.movements
    caught = np.flatnonzero((room.caught > 0.0) & (moves.signal == signal))
    has_room = room.fits_one(moves.to_lane[caught], network.lanes.length_m)
    answer[moves.link[caught[has_room]]] = True
    return answer


class LettingOut:
    """Changes of stage that wait for those caught inside; it keeps since when each signal does."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._waits_since_s: dict[int, float] = {}

    def steps(self, index: int, record: LampRecord, there: str, at_s: float, caught: Bools) -> tuple[LampStep, ...]:
        """Steps to a stage, the stage not included.

        `caught` (K,): of which links somebody is. What crosses his way opens later, by a second each time this is
        asked and by CAUGHT_S in all.
        """
        signal = self._network.signals[index]
        steps = settle(signal, record, there, at_s)
        if not caught.any():
            self._waits_since_s.pop(index, None)
            return steps
        next_state = steps[0].state if steps else there
        lit, goes_on, was_lit = (np.array([c in GREEN for c in x]) for x in (next_state, there, record.state))
        stuck = np.flatnonzero(caught & ~goes_on[: len(caught)])
        meets = signal.foes | signal.foes.T | signal.conflicts | signal.conflicts.T
        late = lit & ~was_lit
        late[: len(caught)] &= meets[stuck].any(axis=0)
        if not late.any():
            self._waits_since_s.pop(index, None)
            return steps
        if at_s - self._waits_since_s.setdefault(index, at_s) >= CAUGHT_S:
            return steps
        first = "".join("r" if waits else c for waits, c in zip(late.tolist(), there, strict=True))
        steps = (*settle(signal, record, first, at_s), LampStep(first, 1.0))
        then_s = at_s
        for step in steps:
            record = record.then(step.state, then_s)
            then_s += step.duration_s
        record = record.then(record.state, then_s)
        return (*steps, *settle(signal, record, there, then_s))
