"""A crossroads that lies somewhere on earth, and Day-I messages told about it."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

from networks import day_one
from networks.coordinates import to_wgs84
from networks.graph import Network
from networks.messages import Frame
from tests.signals.drawn_junctions import crossroads

T0_S = 1_772_406_000.0
PROJECTION = "+proj=utm +zone=50 +datum=WGS84 +units=m +no_defs"


@cache
def placed_crossroads() -> Network:
    """Arms of 200 m; the middle is the local point that `middle` tells."""
    return replace(crossroads(), projection=PROJECTION, net_offset_m=(-458_000.0, -4_405_000.0))


def middle() -> tuple[float, float]:
    network = placed_crossroads()
    x_m, y_m = network.node_xy[list(network.signals[0].nodes)].mean(axis=0)
    return float(x_m), float(y_m)


def degrees(x_m: float, y_m: float) -> tuple[int, int]:
    """Longitude and latitude of a local point, in units of 1e-7 degrees."""
    lon, lat = to_wgs84(placed_crossroads(), x_m, y_m)
    return round(float(lon) * 1e7), round(float(lat) * 1e7)


def participant(number: int, x_m: float, y_m: float, at_s: float = T0_S, **more: Any) -> dict[str, Any]:
    """A car going east at 10 m/s."""
    lon, lat = degrees(x_m, y_m)
    return {
        "ptcType": "motor",
        "ptcId": number,
        "source": "video",
        "secMark": round(at_s % 60.0 * 1000),
        "pos": {"offsetLL": ("position-LatLon", {"lon": lon, "lat": lat})},
        "posConfidence": {"pos": "a50cm"},
        "speed": 500,
        "heading": 7200,
        "size": {"width": 180, "length": 480},
    } | more


def rsm(*participants: dict[str, Any], count: int = 0) -> dict[str, Any]:
    lon, lat = degrees(*middle())
    return {"msgCnt": count, "id": b"unit0001", "refPos": {"lat": lat, "long": lon}, "participants": [*participants]}


def bsm(
    x_m: float, y_m: float, at_s: float = T0_S, *, identity: bytes = b"\x01" * 8, count: int = 0
) -> dict[str, Any]:
    lon, lat = degrees(x_m, y_m)
    return {
        "msgCnt": count,
        "id": identity,
        "secMark": round(at_s % 60.0 * 1000),
        "pos": {"lat": lat, "long": lon},
        "transmission": "forwardGears",
        "speed": 500,
        "heading": 7200,
        "accelSet": {"long": 0, "lat": 0, "vert": 0, "yaw": 0},
        "brakes": {},
        "size": {"width": 180, "length": 480},
        "vehicleClass": {"classification": 54},
    }


def sent(
    kind: str, *values: dict[str, Any], at_s: float = T0_S, delay_s: float = 0.1, unit: str = "unit0001"
) -> tuple[Frame, ...]:
    """The frames of one envelope as a unit sends it."""
    payload = day_one.pack_envelope(unit, at_s, kind, [day_one.encode(kind, value) for value in values])
    return day_one.frames_of(kind, payload, at_s + delay_s)
