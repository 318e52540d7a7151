"""Roadside units (camera, radar): what one unit sees at one moment -> `TrackBatch`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from networks.batches import VEHICLE_KINDS, TrackBatch
from networks.errors import MessageError
from networks.graph import Bools, Floats, Network
from networks.messages import Frame, ObjectList, SeenObject
from twin.feeds.base import IMPOSSIBLE, UNKNOWN_ID, Decoded, Placed, Rejected, decode_list
from twin.feeds.recent import Fix, Whereabouts

BOUNDS_MARGIN_M = 200.0
KIND_INDEX = {kind: i for i, kind in enumerate(VEHICLE_KINDS)}


class TrackRow(NamedTuple):
    measured_at_s: float
    available_at_s: float
    unit: int
    object_id: int
    x_m: float
    y_m: float
    speed_mps: float
    heading_rad: float
    kind: int


TRACK_ROWS = np.dtype(
    [
        ("measured_at_s", np.float64),
        ("available_at_s", np.float64),
        ("unit", np.int32),
        ("object_id", np.int64),
        ("x_m", np.float64),
        ("y_m", np.float64),
        ("speed_mps", np.float64),
        ("heading_rad", np.float64),
        ("kind", np.int32),
    ]
)
"""The fields of `TrackRow` as a structured array, for units that tell of fifty thousand objects a second."""


class RoadsideAdapter:
    feed = "roadside"
    delivers = "roadside"
    own_clock = True
    lateness_s = 10.0
    expected_every_s = 2.0
    source_every_s = 2.0

    def __init__(self, network: Network) -> None:
        self._units = network.signal_index
        self._area = Area(network)
        self._whereabouts: Whereabouts[tuple[int, int]] = Whereabouts(3 * self.lateness_s)

    def decode(self, frame: Frame) -> Decoded[ObjectList]:
        return decode_list(ObjectList, SeenObject, "objects", frame.payload)

    def place(self, report: ObjectList, received_at_s: float) -> Placed[TrackRow]:
        """Raises MessageError when the junction is not in the city."""
        unit = self._units.get(report.junction, -1)
        if unit < 0:
            raise MessageError(UNKNOWN_ID, "junction: not in this city")
        rows: list[TrackRow] = []
        rejected: list[Rejected] = []
        for seen in report.objects:
            if not self._area.holds(seen.x_m, seen.y_m):
                rejected.append(_reject("x_m, y_m: outside the network", seen))
            elif not self._whereabouts.believes((unit, seen.id), Fix(report.measured_at, seen.x_m, seen.y_m)):
                rejected.append(_reject("x_m, y_m: jumped faster than anything drives", seen))
            else:
                rows.append(
                    TrackRow(
                        report.measured_at,
                        received_at_s,
                        unit,
                        seen.id,
                        seen.x_m,
                        seen.y_m,
                        seen.speed_mps,
                        seen.heading_rad,
                        KIND_INDEX[seen.kind],
                    )
                )
        return Placed(rows, rejected)


class Area:
    """The network's bounds with a margin: what lies outside has the wrong datum or a broken receiver."""

    def __init__(self, network: Network) -> None:
        self._west, self._south, self._east, self._north = network.bounds_m

    def hold(self, x_m: Floats, y_m: Floats) -> Bools:
        """Which of many points (N,) lie inside."""
        inside = (x_m >= self._west - BOUNDS_MARGIN_M) & (x_m <= self._east + BOUNDS_MARGIN_M)
        both: Bools = inside & (y_m >= self._south - BOUNDS_MARGIN_M) & (y_m <= self._north + BOUNDS_MARGIN_M)
        return both

    def holds(self, x_m: float, y_m: float) -> bool:
        return (
            self._west - BOUNDS_MARGIN_M <= x_m <= self._east + BOUNDS_MARGIN_M
            and self._south - BOUNDS_MARGIN_M <= y_m <= self._north + BOUNDS_MARGIN_M
        )


def track_batch(rows: Sequence[TrackRow], blocks: Sequence[NDArray[Any]] = ()) -> TrackBatch:
    """One batch of rows and of arrays of `TRACK_ROWS`, in order of event time."""
    table = np.concatenate([np.array(rows, TRACK_ROWS), *blocks])
    if blocks:
        keys = ("x_m", "object_id", "unit", "available_at_s", "measured_at_s")
        table = table[np.lexsort([table[key] for key in keys])]
    return TrackBatch(
        unit=table["unit"].copy(),
        object_id=table["object_id"].copy(),
        x_m=table["x_m"].copy(),
        y_m=table["y_m"].copy(),
        speed_mps=table["speed_mps"].copy(),
        heading_rad=table["heading_rad"].copy(),
        kind=table["kind"].copy(),
        measured_at_s=table["measured_at_s"].copy(),
        available_at_s=table["available_at_s"].copy(),
    )


def _reject(detail: str, seen: SeenObject) -> Rejected:
    return Rejected(IMPOSSIBLE, detail, seen.model_dump_json().encode())
