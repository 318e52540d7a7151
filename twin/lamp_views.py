"""What the lamps of all signals show, and how open they leave each movement to the vehicle lists. See `LampViews`."""

from __future__ import annotations

import numpy as np

from networks.batches import SignalStateBatch
from networks.graph import Bools, Ints, Network
from networks.state import LampView

LIVE_S = 5.0

_OPENNESS = np.zeros(128, np.int32)  # by lamp letter, see `Lanes.open`
for _letter, _openness in {"G": 3, "g": 2, "y": 1, "Y": 1, "s": 2, "o": 2, "O": 3}.items():
    _OPENNESS[ord(_letter)] = _openness


class LampViews:
    """Follows the reported lamps; a report older than the newest known, or of another length, is passed over."""

    def __init__(self, network: Network) -> None:
        self._signals = network.signals
        self._links = [_vehicle_links(s.link_movements) for s in network.signals]
        self.views: list[LampView | None] = [None] * len(network.signals)  # None: never heard

    def note(self, batch: SignalStateBatch, rows: Ints, openness: Ints) -> None:
        """Take in reports in their order; `openness` (M,), see `Lanes.open`, is written."""
        for row in rows:
            signal, state, at_s = int(batch.signal[row]), batch.state[row], float(batch.measured_at_s[row])
            before = self.views[signal]
            links, owners = self._links[signal]
            older = before is not None and at_s <= before.measured_at_s
            if older or len(state) != self._signals[signal].link_count:
                continue
            version = int(batch.plan_version[row])
            if before is None:
                since = np.full(len(state), -np.inf)
            elif before.state == state:
                since = before.since_s
            else:
                changed = np.array([_colour(a) != _colour(b) for a, b in zip(before.state, state, strict=True)])
                since = np.where(changed, at_s, before.since_s)
            if before is None or before.state != state:
                of_letters = _OPENNESS[np.frombuffer(state.encode("ascii"), dtype=np.uint8)]
                openness[owners] = of_letters[links]
            self.views[signal] = LampView(state, since, at_s, version)

    def live(self, second: int) -> Bools:
        """Per signal: it has been heard lately."""
        return np.array([v is not None and second - v.measured_at_s <= LIVE_S for v in self.views], np.bool_)


def _vehicle_links(link_movements: tuple[tuple[int, ...], ...]) -> tuple[Ints, Ints]:
    pairs = [(link, m) for link, owned in enumerate(link_movements) for m in owned]
    table = np.array(pairs, dtype=np.int32).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def _colour(lamp: str) -> str:
    return "green" if lamp in "Gg" else "yellow" if lamp in "yY" else "red"
