"""People at signalised crossings, as the object lists of roadside units show them.

As long as no unit has shown anybody on foot, none may be able to, and a silent one sees nobody: then people are
expected, as at crossings without a unit. Otherwise a unit vouches for empty kerbs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from networks.batches import VEHICLE_KINDS, TrackBatch
from networks.graph import Bools, Floats, Network
from signals.lamps import LampRecord
from signals.priority import Walkers, impatience

KERB_M = 10.0  # of the end of a crossing: whoever is no further away may want to cross
QUIET_S = 5.0  # nobody seen for so long: nobody is there, although a unit misses people now and then
FRESH_S = 3.0  # a unit heard no longer ago vouches for what it sees

_ON_FOOT = VEHICLE_KINDS.index("pedestrian")


class _Kerbs:
    """The crossings of one junction and who was seen at them."""

    def __init__(self, network: Network, signal: int) -> None:
        own = [c for c in network.signals[signal].crossings if len(c.shape) >= 4]
        self.links = [list(c.links) for c in own]
        self.ends_xy = np.array([(*c.shape[:2], *c.shape[-2:]) for c in own]).reshape(len(own), 2, 2)
        self.covered = np.zeros(network.signals[signal].link_count, np.bool_)
        for links in self.links:
            self.covered[links] = True
        self.heard_s = -np.inf
        self.since_s, self.seen_s = np.full(len(own), -np.inf), np.full(len(own), -np.inf)
        self.people = np.zeros(len(own))

    def see(self, x_m: Floats, y_m: Floats, at_s: float) -> None:
        """Everybody on foot whom one object list shows."""
        apart = self.ends_xy[None] - np.stack([x_m, y_m], axis=1)[:, None, None]
        apart_m = np.hypot(apart[..., 0], apart[..., 1]).min(axis=2, initial=np.inf)
        near = apart_m <= KERB_M
        nearest = near & (apart_m == apart_m.min(axis=1, keepdims=True, initial=np.inf))  # at a corner: one of two
        called = near.any(axis=0)
        self.since_s = np.where(called & (self.seen_s < at_s - QUIET_S), at_s, self.since_s)
        self.seen_s = np.where(called, at_s, self.seen_s)
        self.people = np.where(called, nearest.sum(axis=0), self.people)

    def waiting(self, now_s: float) -> Bools:
        """(C,) crossings at which somebody was seen lately."""
        return self.seen_s >= now_s - QUIET_S


class CrossingSight:
    """Who waits at the crossings of junctions with a roadside unit; people expected elsewhere."""

    def __init__(self, network: Network, instrumented: Sequence[int], walkers: Walkers) -> None:
        self._walkers = walkers
        self._kerbs = {int(signal): _Kerbs(network, int(signal)) for signal in instrumented}
        self._now_s = -np.inf
        self._anybody_walks = False

    def hear(self, tracks: TrackBatch, now_s: float) -> None:
        """Take in what units have shown by `now_s`."""
        self._now_s = now_s
        for signal in np.unique(tracks.unit).tolist():
            kerbs = self._kerbs.get(signal)
            if kerbs is None:
                continue
            own = tracks.unit == signal
            kerbs.heard_s = max(kerbs.heard_s, float(tracks.measured_at_s[own].max()))
            on_foot = own & (tracks.kind == _ON_FOOT)
            for at_s in np.unique(tracks.measured_at_s[on_foot]).tolist():
                rows = on_foot & (tracks.measured_at_s == at_s)
                kerbs.see(tracks.x_m[rows], tracks.y_m[rows], at_s)
                self._anybody_walks = True

    def unwanted(self) -> Iterator[tuple[int, Bools]]:
        """Signals whose units vouch, and the links (K,) of crossings at which nobody is."""
        for signal, kerbs in self._kerbs.items():
            if self._vouches(kerbs):
                unwanted = kerbs.covered.copy()
                for links, waits in zip(kerbs.links, kerbs.waiting(self._now_s).tolist(), strict=True):
                    unwanted[links] &= not waits
                yield signal, unwanted

    def _vouches(self, kerbs: _Kerbs) -> bool:
        return self._anybody_walks and kerbs.heard_s >= self._now_s - FRESH_S

    def expect(self, signal: int, record: LampRecord, now_s: float) -> tuple[Floats, Floats]:
        """As `Walkers.expect`."""
        people, rate = self._walkers.expect(signal, record, now_s)
        kerbs = self._kerbs.get(signal)
        if kerbs is None or not self._vouches(kerbs):
            return people, rate
        people, rate = np.where(kerbs.covered, 0.0, people), np.where(kerbs.covered, 0.0, rate)
        waiting = kerbs.waiting(self._now_s)
        weight = self._walkers.weight * kerbs.people * impatience(self._now_s - kerbs.since_s)
        for links, waits, counts in zip(kerbs.links, waiting.tolist(), weight.tolist(), strict=True):
            if waits:
                people[links] += counts / len(links)
        return people, rate
