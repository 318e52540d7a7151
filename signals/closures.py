"""Which edges cars may not enter now, from the closures and works that have been announced."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from networks.batches import ControlNotice
from networks.graph import PASSENGER, Bools, Network


class Closures:
    """Remembers notices; a newer one with the same id replaces the older."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._notices: dict[str, ControlNotice] = {}

    def note(self, notices: Iterable[ControlNotice]) -> None:
        for notice in notices:
            self._notices[notice.id] = notice

    @property
    def known(self) -> tuple[ControlNotice, ...]:
        """All notices that were not over when `closed` was last asked."""
        return tuple(self._notices.values())

    def closed(self, now_s: float) -> Bools:
        """Edges (E,) that are shut as a whole, or on every lane that cars may use. Forgets notices that are over."""
        self._notices = {name: n for name, n in self._notices.items() if n.end_s > now_s}
        lanes = self._network.lanes
        shut_lane = (lanes.allowed & PASSENGER) == 0
        shut = np.zeros(len(self._network.edges.ids), np.bool_)
        for notice in self._notices.values():
            if notice.begin_s > now_s:
                continue
            if notice.lanes:
                shut_lane[list(notice.lanes)] = True
            elif np.isnan(notice.speed_limit_mps):  # a limit for the whole edge closes nothing
                shut[notice.edge] = True
        open_lanes = np.bincount(lanes.edge[~shut_lane], minlength=len(shut))
        shut[open_lanes == 0] = True
        return shut
