"""All roadside units: when each was heard, and which parts of lanes they see. See `RoadsideUnits`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from networks.batches import TrackBatch
from networks.graph import Ints, Network
from twin.fusion_kernels import Lanes
from twin.roadside_sight import RoadsideSight
from twin.street_places import StreetPlaces

LIVE_S = 3.0
SILENT_S = 60.0  # nobody on the road, on foot or imagined for so long; what sees nobody sends no rows
QUEUE_SIGHT_FRAC = 0.2  # of a lane in a unit's sight, from the stop line on: its queue is told by the lists


class RoadsideUnits:
    """Where live units look, their silence about a vehicle counts against it."""

    def __init__(self, network: Network, places: StreetPlaces, instrumented: Sequence[int]) -> None:
        self._ids = tuple(s.id for s in network.signals)
        self._length_m = network.lanes.length_m
        self._units = {int(u): RoadsideSight(network, places, int(u)) for u in instrumented}
        self.lane_s = np.full(len(self._length_m), -np.inf)  # (L,) newest moment a unit saw most of the lane
        self.line_s = np.full(len(self._length_m), -np.inf)  # ... saw the part of it before the stop line

    def note_spoken(self, batch: TrackBatch, rows: Ints) -> None:
        """Whatever a unit shows, on the road or not: it is there."""
        for number in np.intersect1d(batch.unit[rows], list(self._units)).tolist():
            self._units[number].spoke_s = float(batch.measured_at_s[rows[batch.unit[rows] == number]].max())

    def note_known(self, batch: TrackBatch, rows: Ints) -> None:
        """Tracks of vehicles known before: the unit is live, and sees as far as they are."""
        for number, unit in self._units.items():
            own = rows[batch.unit[rows] == number]
            if len(own):
                unit.hear(float(batch.measured_at_s[own].max()))
                unit.widen(batch.x_m[own], batch.y_m[own])

    def look(self, lanes: Lanes, now_s: float) -> None:
        """Write what live units see into `lanes.seen_from_m` and `lanes.seen_to_m`."""
        lanes.seen_from_m[:], lanes.seen_to_m[:] = np.inf, -np.inf
        for unit in self._units.values():
            if now_s - unit.heard_s <= LIVE_S:
                seen, low, high = unit.sight()
                streets, low_m, high_m = unit.of_streets
                lanes.seen_from_m[streets], lanes.seen_to_m[streets] = low_m, high_m
                length_m = self._length_m[seen]
                self.lane_s[seen[high - low >= 0.7 * length_m]] = unit.heard_s
                self.line_s[seen[high - low >= QUEUE_SIGHT_FRAC * length_m]] = unit.heard_s

    def silent(self, now_s: float, start_s: float) -> list[str]:
        """One line a unit that has told nothing for long, at the earliest since `start_s`."""
        return [
            f"roadside unit {self._ids[u]}: silent"
            for u, unit in self._units.items()
            if now_s - max(unit.spoke_s, start_s) > SILENT_S
        ]
