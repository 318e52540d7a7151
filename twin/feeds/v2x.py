"""Equipped vehicles (V2X, probe GPS): what a vehicle says of itself -> `ProbeBatch`.

The vehicle's identity ends here: `decode` hands on a pseudonym.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from networks.batches import ProbeBatch
from networks.errors import MessageError
from networks.graph import Network
from networks.messages import Frame, VehicleReport
from twin.feeds.base import IMPOSSIBLE, UNKNOWN_ID, Decoded, Placed, Rejected, decode_message
from twin.feeds.recent import Fix, Whereabouts
from twin.feeds.roadside import KIND_INDEX, Area
from twin.privacy import Pseudonyms


class OwnReport(NamedTuple):
    """A `VehicleReport` without the identity."""

    measured_at: float
    vehicle: int  # pseudonym
    x_m: float
    y_m: float
    speed_mps: float
    heading_rad: float
    kind: int
    destination: str | None


class ProbeRow(NamedTuple):
    measured_at_s: float
    available_at_s: float
    vehicle: int
    x_m: float
    y_m: float
    speed_mps: float
    heading_rad: float
    kind: int
    destination_edge: int


class VehicleAdapter:
    feed = "v2x"
    delivers = "v2x"
    own_clock = True
    lateness_s = 10.0
    expected_every_s = 2.0
    source_every_s = math.inf

    def __init__(self, network: Network, pseudonyms: Pseudonyms) -> None:
        self._edges = network.edge_index
        self._area = Area(network)
        self._pseudonyms = pseudonyms
        self._whereabouts: Whereabouts[int] = Whereabouts(3 * self.lateness_s)

    def decode(self, frame: Frame) -> Decoded[OwnReport]:
        said = decode_message(VehicleReport, frame.payload)
        report = OwnReport(
            said.measured_at,
            self._pseudonyms.of(said.vehicle, said.measured_at),
            said.x_m,
            said.y_m,
            said.speed_mps,
            said.heading_rad,
            KIND_INDEX[said.kind],
            said.destination,
        )
        return Decoded((report,))

    def place(self, report: OwnReport, received_at_s: float) -> Placed[ProbeRow]:
        """A wish to go where our map does not reach costs the wish, not the position.

        Raises MessageError when the position is impossible.
        """
        if not self._area.holds(report.x_m, report.y_m):
            raise MessageError(IMPOSSIBLE, "x_m, y_m: outside the network")
        if not self._whereabouts.believes(report.vehicle, Fix(report.measured_at, report.x_m, report.y_m)):
            raise MessageError(IMPOSSIBLE, "x_m, y_m: jumped faster than anything drives")
        rejected: tuple[Rejected, ...] = ()
        destination = -1
        if report.destination is not None:
            destination = self._edges.get(report.destination, -1)
            if destination < 0:
                rejected = (Rejected(UNKNOWN_ID, "destination: not an edge of this city", b""),)
        row = ProbeRow(
            report.measured_at,
            received_at_s,
            report.vehicle,
            report.x_m,
            report.y_m,
            report.speed_mps,
            report.heading_rad,
            report.kind,
            destination,
        )
        return Placed((row,), rejected)


def probe_batch(rows: Sequence[ProbeRow]) -> ProbeBatch:
    measured, available, vehicle, x, y, speed, heading, kind, destination = (
        zip(*rows, strict=True) if rows else ((),) * len(ProbeRow._fields)
    )
    return ProbeBatch(
        vehicle=np.array(vehicle, np.int64),
        x_m=np.array(x, float),
        y_m=np.array(y, float),
        speed_mps=np.array(speed, float),
        heading_rad=np.array(heading, float),
        kind=np.array(kind, np.int32),
        destination_edge=np.array(destination, np.int32),
        measured_at_s=np.array(measured, float),
        available_at_s=np.array(available, float),
    )
