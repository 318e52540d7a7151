"""Basic safety messages (BSM, T/CSAE-53): what a vehicle says of itself over C-V2X -> `ProbeBatch`.

The vehicle's identity ends here: `decode` hands on a pseudonym. Path history and other extensions are not used.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from networks import day_one
from networks import day_one_kernels as kernels
from networks.errors import MessageError
from networks.graph import Network
from networks.messages import Frame
from twin.feeds.base import IMPOSSIBLE, MALFORMED, Decoded, Placed
from twin.feeds.datum import Locator
from twin.feeds.recent import MAX_SPEED_MPS
from twin.feeds.v2x import OwnReport, ProbeRow, VehicleAdapter
from twin.privacy import Pseudonyms


class BsmAdapter:
    feed = "bsm"
    delivers = "v2x"
    own_clock = False  # the time sent is the unit's that heard the vehicle
    lateness_s = 10.0
    expected_every_s = 2.0
    source_every_s = math.inf

    def __init__(self, network: Network, pseudonyms: Pseudonyms, *, datum: str = "wgs84") -> None:
        self._locator = Locator(network, datum)
        self._pseudonyms = pseudonyms
        self._vehicles = VehicleAdapter(network, pseudonyms)
        self._own = np.zeros(kernels.OWN_FIELDS, np.int64)

    def decode(self, frame: Frame) -> Decoded[OwnReport]:
        own = read_own(frame.payload, self._own).tolist()
        near_s = day_one.moment_near(frame)
        measured_at = day_one.nearest_second(own[kernels.OWN_SECOND_MS], near_s)
        if math.isnan(measured_at):
            raise MessageError(IMPOSSIBLE, "secMark: not available")
        lat, lon = own[kernels.OWN_LATITUDE], own[kernels.OWN_LONGITUDE]
        if abs(lat) >= day_one.NO_LATITUDE or abs(lon) >= day_one.NO_LONGITUDE:
            raise MessageError(IMPOSSIBLE, "pos: not available")
        speed_mps = own[kernels.OWN_SPEED] * day_one.SPEED_UNIT_MPS
        if speed_mps > MAX_SPEED_MPS:
            raise MessageError(IMPOSSIBLE, "speed: not available, or faster than anything drives")
        if own[kernels.OWN_HEADING] == day_one.NO_HEADING:
            raise MessageError(IMPOSSIBLE, "heading: not available")
        x_m, y_m = self._locator.place_one(lon * day_one.ANGLE_UNIT_DEG, lat * day_one.ANGLE_UNIT_DEG)
        report = OwnReport(
            measured_at,
            self._pseudonyms.of(day_one.identity_of(frame.payload), measured_at),
            x_m,
            y_m,
            speed_mps,
            self._locator.heading_rad(own[kernels.OWN_HEADING] * day_one.HEADING_UNIT_DEG),
            int(kernels.user_of_class(own[kernels.OWN_CLASS])),
            None,
        )
        return Decoded((report,))

    def place(self, report: OwnReport, received_at_s: float) -> Placed[ProbeRow]:
        """Raises MessageError when the position is impossible."""
        return self._vehicles.place(report, received_at_s)


def read_own(payload: bytes, own: NDArray[np.int64]) -> NDArray[np.int64]:
    """Write a message's fields (9,) in the order of `day_one_kernels`, and answer them.

    Raises MessageError("malformed").
    """
    answer = kernels.read_bsm(np.frombuffer(payload, np.uint8), own)
    if answer == kernels.EXTENDED:
        kind, value = day_one.decode(payload)
        if kind != "BSM":
            raise MessageError(MALFORMED, f"message: {kind}, expected a BSM")
        own[:] = (
            value["msgCnt"],
            value["secMark"],
            value["pos"]["lat"],
            value["pos"]["long"],
            value["speed"],
            value["heading"],
            value["size"]["width"],
            value["size"]["length"],
            value["vehicleClass"]["classification"],
        )
    elif answer != 1:
        reason = "cut off" if answer == kernels.CUT_OFF else "a component is out of range, or it is another message"
        raise MessageError(MALFORMED, f"message: not a BSM: {reason}")
    return own
