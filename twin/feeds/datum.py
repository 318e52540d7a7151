"""Longitude and latitude of a feed, in the datum that it declares -> local metres of the network. See `Locator`."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from networks.coordinates import LonLat, bd09_to_wgs84, from_wgs84, gcj02_to_wgs84, to_wgs84
from networks.errors import InputError
from networks.graph import Network

_TO_WGS84 = {"wgs84": None, "cgcs2000": None, "gcj02": gcj02_to_wgs84, "bd09": bd09_to_wgs84}
DATUMS = tuple(_TO_WGS84)
"""What a feed may declare. CGCS2000 and WGS-84 agree within centimetres and are not told apart."""


class Locator:
    """Places one feed's coordinates. The datum is declared, never guessed."""

    def __init__(self, network: Network, datum: str = "wgs84") -> None:
        """Raises InputError for an unknown datum, NetworkError when the network has no georeference."""
        if datum not in _TO_WGS84:
            raise InputError(f"datum {datum!r}: one of {', '.join(DATUMS)}")
        self._network = network
        self._to_wgs84 = _TO_WGS84[datum]
        west, south, east, north = network.bounds_m
        lon, lat = to_wgs84(network, (west + east) / 2, (south + north) / 2)
        x_m, y_m = from_wgs84(network, [float(lon)] * 2, [float(lat), float(lat) + 1e-4])
        self.north_rad = math.atan2(float(y_m[1] - y_m[0]), float(x_m[1] - x_m[0]))
        """Direction of true north in the middle of the network, 0 is east, counter-clockwise."""

    def place(self, lon: ArrayLike, lat: ArrayLike) -> LonLat:
        """Degrees (N,) in the feed's datum -> metres (N,), (N,)."""
        if self._to_wgs84 is not None:
            lon, lat = self._to_wgs84(lon, lat)
        return from_wgs84(self._network, lon, lat)

    def place_one(self, lon: float, lat: float) -> tuple[float, float]:
        """Degrees of one point -> metres."""
        x_m, y_m = self.place(np.array([lon]), np.array([lat]))
        return float(x_m[0]), float(y_m[0])

    def heading_rad(self, clockwise_deg: float) -> float:
        """Degrees clockwise from true north -> radians from east, counter-clockwise, in [-pi, pi]."""
        return math.remainder(self.north_rad - math.radians(clockwise_deg), 2.0 * math.pi)
