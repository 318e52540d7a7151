"""Works and closures on a virtual city's street, made real from the notices that announce them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from networks.graph import Network
from networks.messages import NoticeReport

# SUMO ends a run when a permission change cuts a loaded route, so a closed lane is one at walking pace.
CLOSED_MPS = 0.5
AVOID_S = 1e5  # travel time that drivers believe of a closed edge


class Works:
    """Applies each notice while it holds."""

    def __init__(self, sumo: Any, network: Network, notices: Sequence[NoticeReport]) -> None:
        self._sumo, self._network, self._notices = sumo, network, tuple(notices)
        self._active: dict[str, tuple[NoticeReport, dict[str, float]]] = {}  # with each lane's speed before
        self.closed: set[str] = set()  # edges wholly closed now

    def announce(self, notices: Sequence[NoticeReport]) -> None:
        """From now on these hold and no others; what has changed or is withdrawn ends at once."""
        self._notices = tuple(notices)
        kept = {notice.id: notice for notice in notices}
        for name, (notice, _) in list(self._active.items()):
            if kept.get(name) != notice:
                self._finish(notice)

    def apply(self, now_s: float, vehicles: Sequence[str]) -> None:
        """Begin and end what is due; drivers with a way around a closed edge take it."""
        for notice in self._notices:
            due = notice.begin <= now_s < notice.end
            if due and notice.id not in self._active:
                self._begin(notice)
                for name in vehicles if notice.edge in self.closed else ():
                    self.avoid(name)
            elif not due and notice.id in self._active:
                self._finish(notice)

    def avoid(self, vehicle: str) -> None:
        """A driver whose route holds a closed edge ahead looks for another way."""
        api = self._sumo.vehicle
        ahead = api.getRoute(vehicle)[max(0, api.getRouteIndex(vehicle)) + 1 :]
        if not self.closed.isdisjoint(ahead[:-1]):
            api.rerouteTraveltime(vehicle)

    def _begin(self, notice: NoticeReport) -> None:
        edge = self._network.edge_index.get(notice.edge)
        if edge is None:
            self._active[notice.id] = notice, {}
            return
        first, last = self._network.edges.first_lane[edge : edge + 2]
        whole = not notice.lanes and notice.speed_limit_mps is None
        lanes = [
            self._network.lanes.ids[i] for i in range(first, last) if not notice.lanes or i - first in notice.lanes
        ]
        before = {lane: self._sumo.lane.getMaxSpeed(lane) for lane in lanes}
        for lane in lanes:
            closed = notice.lanes or whole
            self._sumo.lane.setMaxSpeed(
                lane, CLOSED_MPS if closed else min(before[lane], notice.speed_limit_mps or 0)
            )
        self._active[notice.id] = notice, before
        if whole:
            self.closed.add(notice.edge)
            self._sumo.edge.adaptTraveltime(notice.edge, AVOID_S)

    def _finish(self, notice: NoticeReport) -> None:
        for lane, speed_mps in self._active.pop(notice.id)[1].items():
            self._sumo.lane.setMaxSpeed(lane, speed_mps)
        if notice.edge in self.closed:
            self.closed.discard(notice.edge)
            length_m = self._network.edges.length_m[self._network.edge_index[notice.edge]]
            limit_mps = self._network.edges.speed_limit_mps[self._network.edge_index[notice.edge]]
            self._sumo.edge.adaptTraveltime(notice.edge, float(length_m / limit_mps))
