"""Who waits for a green in a running simulation: the calls that detectors and push buttons would give."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from networks.graph import Bools, Floats, Network
from signals.executor import Head
from signals.lamps import LampRecord
from signals.loop_calls import LoopCalls
from signals.priority import Walkers, impatience


class Calls:
    """What links are wanted, and how many people wait at each crossing.

    A simulation without a single walker says nothing about walkers: until the first one is seen people are expected
    at every crossing, as where nobody counts them.
    """

    def __init__(self, libsumo: Any, network: Network, walkers: Walkers | None = None) -> None:
        """`walkers`: what a person counts, and who is expected until somebody is seen; None: as a car, and nobody."""
        self._person = libsumo.person
        self._walkers = walkers
        self._crossings = {
            c.id: (index, list(c.links)) for index, signal in enumerate(network.signals) for c in signal.crossings
        }
        self._on_foot = [signal.pedestrian for signal in network.signals]
        self._wanted: list[Bools] = [np.ones(signal.link_count, np.bool_) for signal in network.signals]
        self._people: list[Floats] = [np.zeros(signal.link_count) for signal in network.signals]
        self._anybody_walks = False

    def look(self, coming: Iterable[tuple[int, int]]) -> None:
        """Once a second. `coming`: signal and link of every vehicle in sight."""
        walkers = self._person.getIDList()
        self._anybody_walks = self._anybody_walks or bool(walkers)
        for on_foot, wanted, people in zip(self._on_foot, self._wanted, self._people, strict=True):
            wanted[:] = on_foot & (not self._anybody_walks)
            people[:] = 0.0
        for name in walkers:
            signal, links = self._crossings.get(self._person.getNextEdge(name), (0, []))
            self._wanted[signal][links] = True
            stood_s = np.array(self._person.getWaitingTime(name))
            self._people[signal][links] += impatience(stood_s) / max(len(links), 1)
        for signal, link in coming:
            self._wanted[signal][link] = True

    def tell(self, heads: Sequence[Head], units: Iterable[int], loops: LoopCalls, now_s: float) -> None:
        """Look at the walkers, and tell the controllers of signals what the devices wired to them vouch for.

        Roadside units, of these signals, see who walks; loops see who stands before the stop line.
        """
        self.look(())
        for signal in units:
            heads[signal].vouch(self.nobody_on_foot(signal), now_s)
        for signal, unwanted in loops.unwanted(now_s):
            heads[signal].vouch(unwanted, now_s)

    def unwanted(self, signal: int) -> Bools:
        """(K,) links that nobody waits at or comes to."""
        return ~self._wanted[signal]

    def nobody_on_foot(self, signal: int) -> Bools:
        """(K,) links of crossings that nobody waits at."""
        return self._on_foot[signal] & ~self._wanted[signal]

    def expect(self, signal: int, record: LampRecord, now_s: float) -> tuple[Floats, Floats]:
        """As `Walkers.expect`: those who wait, and nobody else until they come."""
        if not self._anybody_walks and self._walkers is not None:
            return self._walkers.expect(signal, record, now_s)
        weight, people = 1.0 if self._walkers is None else self._walkers.weight, self._people[signal]
        return weight * people, np.zeros(len(people))
