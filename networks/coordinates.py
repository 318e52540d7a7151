"""Coordinate systems: WGS-84, the Chinese GCJ-02 and BD-09, UTM, CGCS2000, and the local metres of a network.

GCJ-02 (all lawful map data in mainland China) is WGS-84 moved by a deterministic distortion of up to 700 m; BD-09
(Baidu) moves GCJ-02 once more. The datum of data is told by its provider and never guessed here.

Outside the rectangle of China (`inside_china`) GCJ-02 is WGS-84 by convention of every provider: there the
conversions are the identity. The test looks at the point that is given, so within about 1 km of the border of the
rectangle a round trip need not come back. Everywhere else forward and back agree to 1e-9 degrees (0.1 mm).

All functions take and give degrees, longitude first, scalars or arrays alike.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError

from networks.errors import InputError, NetworkError
from networks.graph import Bools, Floats, Network

LonLat = tuple[Floats, Floats]

_AXIS_M = 6378245.0  # Krasovsky 1940, as GCJ-02 uses it
_ECCENTRICITY2 = 0.00669342162296594323
_BD_PI = np.pi * 3000.0 / 180.0
_CHINA = (72.004, 0.8293, 137.8347, 55.8271)  # west, south, east, north
_TOLERANCE_DEG = 1e-12
_ROUNDS = 50


def inside_china(lon: ArrayLike, lat: ArrayLike) -> Bools:
    """Whether GCJ-02 differs from WGS-84 there: the rectangle that providers use, wider than the country."""
    x, y = np.asarray(lon, np.float64), np.asarray(lat, np.float64)
    west, south, east, north = _CHINA
    return np.asarray((x >= west) & (x <= east) & (y >= south) & (y <= north))


def wgs84_to_gcj02(lon: ArrayLike, lat: ArrayLike) -> LonLat:
    x, y = _pair(lon, lat)
    moved_x, moved_y = _distort(x, y)
    inside = inside_china(x, y)
    return np.where(inside, moved_x, x), np.where(inside, moved_y, y)


def gcj02_to_wgs84(lon: ArrayLike, lat: ArrayLike) -> LonLat:
    x, y = _pair(lon, lat)
    back_x, back_y = _invert(_distort, x, y)
    inside = inside_china(x, y)
    return np.where(inside, back_x, x), np.where(inside, back_y, y)


def gcj02_to_bd09(lon: ArrayLike, lat: ArrayLike) -> LonLat:
    x, y = _pair(lon, lat)
    radius = np.hypot(x, y) + 2e-5 * np.sin(y * _BD_PI)
    angle = np.arctan2(y, x) + 3e-6 * np.cos(x * _BD_PI)
    return radius * np.cos(angle) + 0.0065, radius * np.sin(angle) + 0.006


def bd09_to_gcj02(lon: ArrayLike, lat: ArrayLike) -> LonLat:
    return _invert(gcj02_to_bd09, *_pair(lon, lat))


def wgs84_to_bd09(lon: ArrayLike, lat: ArrayLike) -> LonLat:
    return gcj02_to_bd09(*wgs84_to_gcj02(lon, lat))


def bd09_to_wgs84(lon: ArrayLike, lat: ArrayLike) -> LonLat:
    return gcj02_to_wgs84(*bd09_to_gcj02(lon, lat))


def utm_epsg(lon: float, lat: float) -> int:
    """EPSG code of the WGS-84 UTM zone of a point, plain six-degree zones."""
    if not (-180.0 <= lon <= 180.0 and -80.0 <= lat <= 84.0):
        raise InputError(f"longitude {lon}, latitude {lat}: outside the range of UTM")
    zone = min(int((lon + 180.0) // 6.0) + 1, 60)
    return (32600 if lat >= 0 else 32700) + zone


def cgcs2000_epsg(lon: float) -> int:
    """EPSG code of the CGCS2000 three-degree Gauss-Krueger zone (eastings without zone prefix) of a longitude."""
    if not 73.5 <= lon < 136.5:
        raise InputError(f"longitude {lon}: CGCS2000 zones reach from 73.5 to 136.5 degrees east")
    return 4534 + int((lon - 73.5) // 3.0)


def to_wgs84(network: Network, x_m: ArrayLike, y_m: ArrayLike) -> LonLat:
    """Local metres of a network -> longitude, latitude. Raises NetworkError when it has no georeference."""
    x, y = _pair(x_m, y_m)
    dx, dy = network.net_offset_m
    lon, lat = _transformer(_projection(network)).transform(x - dx, y - dy, direction="INVERSE")
    return _pair(lon, lat)


def from_wgs84(network: Network, lon: ArrayLike, lat: ArrayLike) -> LonLat:
    """Longitude, latitude -> local metres of a network. Raises NetworkError when it has no georeference."""
    dx, dy = network.net_offset_m
    x, y = _transformer(_projection(network)).transform(*_pair(lon, lat))
    return np.asarray(x) + dx, np.asarray(y) + dy


def _pair(x: ArrayLike, y: ArrayLike) -> LonLat:
    return np.asarray(x, np.float64), np.asarray(y, np.float64)


def _distort(lon: Floats, lat: Floats) -> LonLat:
    """The GCJ-02 distortion, smooth everywhere."""
    x, y = lon - 105.0, lat - 35.0
    root = np.sqrt(np.abs(x))
    ripple = 20.0 * np.sin(6.0 * np.pi * x) + 20.0 * np.sin(2.0 * np.pi * x)
    north_m = -100.0 + 2.0 * x + 3.0 * y + 0.2 * y * y + 0.1 * x * y + 0.2 * root
    north_m += (ripple + 20.0 * np.sin(np.pi * y) + 40.0 * np.sin(np.pi / 3.0 * y)) * 2.0 / 3.0
    north_m += (160.0 * np.sin(np.pi / 12.0 * y) + 320.0 * np.sin(np.pi / 30.0 * y)) * 2.0 / 3.0
    east_m = 300.0 + x + 2.0 * y + 0.1 * x * x + 0.1 * x * y + 0.1 * root
    east_m += (ripple + 20.0 * np.sin(np.pi * x) + 40.0 * np.sin(np.pi / 3.0 * x)) * 2.0 / 3.0
    east_m += (150.0 * np.sin(np.pi / 12.0 * x) + 300.0 * np.sin(np.pi / 30.0 * x)) * 2.0 / 3.0
    phi = np.radians(lat)
    magic = 1.0 - _ECCENTRICITY2 * np.sin(phi) ** 2
    meridian_m = _AXIS_M * (1.0 - _ECCENTRICITY2) / (magic * np.sqrt(magic))
    parallel_m = _AXIS_M / np.sqrt(magic) * np.cos(phi)
    return lon + np.degrees(east_m / parallel_m), lat + np.degrees(north_m / meridian_m)


def _invert(forward: Callable[[Floats, Floats], LonLat], lon: Floats, lat: Floats) -> LonLat:
    """Solve forward(x, y) == (lon, lat) by fixed-point iteration; the shifts vary by < 1 % so it contracts fast."""
    x, y = lon.copy(), lat.copy()
    for _ in range(_ROUNDS):
        got_x, got_y = forward(x, y)
        step_x, step_y = lon - got_x, lat - got_y
        x, y = x + step_x, y + step_y
        if max(np.max(np.abs(step_x), initial=0.0), np.max(np.abs(step_y), initial=0.0)) < _TOLERANCE_DEG:
            break
    return np.asarray(x), np.asarray(y)


def _projection(network: Network) -> str:
    if network.projection is None:
        raise NetworkError(f"network {network.name!r} has no georeference: its metres belong to no place on earth")
    return network.projection


@lru_cache(maxsize=16)
def _transformer(projection: str) -> Transformer:
    try:
        return Transformer.from_crs(CRS.from_epsg(4326), CRS.from_user_input(projection), always_xy=True)
    except CRSError as defect:
        raise NetworkError(f"projection {projection!r} is not understood: {defect}") from defect
