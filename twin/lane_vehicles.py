"""Vehicle lists on all lanes: what the kernels work on, made from a network and its detectors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from networks.city import Detector
from networks.graph import Floats, Ints, Network
from twin.fusion_kernels import GOLDEN, Lanes, Pool, Streets

JAM_SPACING_M = 6.5  # a short car and the gap it keeps standing: the bound of a lane's storage
IN_JUNCTION = 4  # places in a lane's list for vehicles still inside the junction before it


def make_streets(network: Network, detectors: Sequence[Detector], ends_frac: Floats | None = None) -> Streets:
    """The unchanging side of the lists. Lanes that no motor vehicle may use get no places.

    `ends_frac` (L,): share of those who come to a lane's end that end their trip there; None: nobody.
    """
    lanes, movements = network.lanes, network.movements
    count = len(lanes.ids)
    motor = lanes.motor
    places = np.where(motor, np.floor(lanes.length_m / JAM_SPACING_M) + 1 + IN_JUNCTION, 0).astype(np.int64)
    offset = np.concatenate([[0], np.cumsum(places)]).astype(np.int32)
    first, last = np.arange(count, dtype=np.int32), np.arange(1, count + 1, dtype=np.int32)
    for edge in range(len(network.edges.ids)):
        own = np.arange(network.edges.first_lane[edge], network.edges.first_lane[edge + 1])
        used = own[motor[own]]
        if len(used):
            first[used], last[used] = used[0], used[-1] + 1
    stop, up = np.full(count, -1.0), np.full(count, -1.0)
    for detector in detectors:
        if detector.role == "stop":
            stop[detector.lane] = detector.position_m
        elif detector.role == "upstream":
            up[detector.lane] = detector.position_m
    rows = network.lane_movements
    return Streets(
        offset,
        lanes.length_m,
        lanes.speed_limit_mps,
        stop,
        up,
        first,
        last,
        rows.offsets,
        rows.values.astype(np.int32),
        movements.to_lane,
        movements.length_m,
        movements.speed_mps,
        lanes.edge,
        np.zeros(count) if ends_frac is None else ends_frac,
    )


def make_pool(streets: Streets) -> Pool:
    """An empty pool with a row for every place."""
    rows = int(streets.offset[-1])

    def ints() -> Ints:
        return np.zeros(rows, np.int32)

    def floats() -> Floats:
        return np.zeros(rows)

    return Pool(
        lane=np.full(rows, -1, np.int32),
        position_m=floats(),
        speed_mps=floats(),
        length_m=floats(),
        kind=ints(),
        movement=ints(),
        sure=np.zeros(rows, np.bool_),
        destination=ints(),
        certainty=floats(),
        seen_s=floats(),
        held_s=floats(),
        still_s=floats(),
        stood_s=floats(),
        doubt=floats(),
        counted=np.zeros(rows, np.bool_),
        probe=np.zeros(rows, np.int64),
        probe_s=floats(),
        track=np.zeros(rows, np.int64),
        track_s=floats(),
        serial=np.zeros(rows, np.int64),
        free=np.arange(rows, dtype=np.int32)[::-1].copy(),
        tally=np.array([rows, 0], dtype=np.int64),
    )


def make_lanes(streets: Streets, share: Floats) -> Lanes:
    """Empty lists; all movements open until a lamp is heard of."""
    count, movements = len(streets.length_m), len(streets.to_lane)

    def floats() -> Floats:
        return np.zeros(count)

    def unheard() -> Floats:
        return np.full(count, -1.0)

    return Lanes(
        order=np.zeros(int(streets.offset[-1]), np.int32),
        listed=np.zeros(count, np.int32),
        stop_live=np.zeros(count, np.bool_),
        stop_count=np.zeros(count, np.int32),
        stop_share=unheard(),
        stop_mps=np.full(count, np.nan),
        stop_idle_s=floats(),
        stop_busy_s=floats(),
        stop_held=np.zeros(count, np.int64),
        up_live=np.zeros(count, np.bool_),
        up_count=np.zeros(count, np.int32),
        up_share=unheard(),
        up_mps=np.full(count, np.nan),
        up_idle_s=floats(),
        up_busy_s=floats(),
        open=np.full(movements, 3, np.int32),
        open_s=np.zeros(movements),
        share=share.copy(),
        hits=np.zeros(movements),
        draw=(np.arange(count, dtype=np.float64) * GOLDEN) % 1.0,
        up_cum=floats(),
        stop_cum=floats(),
        ending=floats(),
        debt=floats(),
        seen_from_m=np.full(count, np.inf),
        seen_to_m=np.full(count, -np.inf),
        left=floats(),
    )
