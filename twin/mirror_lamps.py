"""The mirror's signals show what the street's lamps showed, second by second."""

from __future__ import annotations

from typing import Any

import numpy as np

from networks.graph import Network
from twin.mirror_words import LampOrder

GREEN, YELLOW = "Gg", "yY"


class LampFollower:
    """Turns one lamp report a cycle into lamp states for every second since the last, and shows them.

    A report says since when each link has its colour, so a change is shown at its own second, with the yellow that
    must have stood between green and red. A signal that is not heard runs its shipped programme.
    """

    def __init__(self, sumo: Any, network: Network) -> None:
        self._sumo, self._signals = sumo, network.signals
        self._shown: list[str | None] = [None] * len(network.signals)  # None: the shipped programme runs
        self._plan: list[list[tuple[float, str]]] = [[] for _ in network.signals]

    def plan(self, orders: tuple[LampOrder | None, ...], begin_s: float, until_s: float) -> None:
        """Lay out the lamps of the seconds from `begin_s` up to `until_s`."""
        self._plan = [[] for _ in self._signals]
        for k, (signal, order) in enumerate(zip(self._signals, orders, strict=True)):
            if order is None:
                if self._shown[k] is not None:
                    self._sumo.trafficlight.setProgram(signal.id, signal.programme.id)
                    self._shown[k] = None
                continue
            before = self._shown[k]
            if before is None or len(before) != len(order.state):
                self._plan[k] = [(begin_s, order.state)]
                continue
            if before == order.state:
                continue
            seconds = np.arange(np.floor(begin_s), until_s)
            self._plan[k] = [(float(s), lamps_at(before, order, signal.yellow_s, s)) for s in seconds]

    @property
    def shown(self) -> tuple[str | None, ...]:
        """(J,) the lamps set last; None: the shipped programme runs."""
        return tuple(self._shown)

    def show(self, now_s: float) -> None:
        """Set the lamps for the step that begins now."""
        for k, plan in enumerate(self._plan):
            due = [state for at_s, state in plan if at_s <= now_s + 1e-6]
            if due and due[-1] != self._shown[k]:
                self._sumo.trafficlight.setRedYellowGreenState(self._signals[k].id, due[-1])
                self._shown[k] = due[-1]


def lamps_at(before: str, order: LampOrder, yellow_s: float, second: float) -> str:
    """The lamp string shown at one second between an older state and a newer report."""
    lamps = []
    for old, new, since_s in zip(before, order.state, order.since_s.tolist(), strict=True):
        if second >= since_s - 1e-6 or old == new:
            lamps.append(new)
        elif old in GREEN and new not in GREEN + YELLOW and second >= since_s - yellow_s:
            lamps.append("y")
        else:
            lamps.append(old)
    return "".join(lamps)
