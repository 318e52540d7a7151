"""Vehicle lists on all lanes: what the kernels work on, made from a network and its detectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from networks.city import Detector
from networks.graph import Floats, Ints, Network
from networks.pieces import StreetPieces
from twin.fusion_kernels import GOLDEN, Lanes, Pool, Streets

JAM_SPACING_M = 6.5  # a short car and the gap it keeps standing: the bound of a lane's storage
IN_JUNCTION = 4  # places in a lane's list for vehicles still inside the junction before it


def at_lines(pieces: StreetPieces, detectors: Sequence[Detector]) -> tuple[Detector, ...]:
    """The loops, those of stop lines as on the lane that ends there; on the piece before it: below its begin."""
    moved = []
    for d in detectors:
        line = int(pieces.line[d.lane]) if d.role == "stop" else d.lane
        position_m = d.position_m + float(pieces.begin_m[d.lane] - pieces.begin_m[line])
        moved.append(d if line == d.lane else replace(d, lane=line, position_m=position_m))
    return tuple(moved)


def street_loops(pieces: StreetPieces, detectors: Sequence[Detector], role: str) -> Ints:
    """The loops of a role that the lists go by, one a street lane: the nearest to its end."""
    along_m = {i: float(pieces.begin_m[d.lane]) + d.position_m for i, d in enumerate(detectors) if d.role == role}
    nearest = {int(pieces.line[detectors[i].lane]): i for i in sorted(along_m, key=lambda i: along_m[i])}
    return np.array(sorted(nearest.values()), np.int32)


def make_streets(
    network: Network, detectors: Sequence[Detector], pieces: StreetPieces, ends_frac: Floats | None = None
) -> Streets:
    """The unchanging side of the lists, by street lanes. Lanes that no motor vehicle may use, and pieces other than a
    street lane's last, get no places.

    `ends_frac` (L,): share of those who come to a lane's end that end their trip there; None: nobody.
    """
    lanes, movements = network.lanes, network.movements
    count = len(lanes.ids)
    motor = lanes.motor & (pieces.line == np.arange(count))
    places = np.where(motor, np.floor(pieces.end_m / JAM_SPACING_M) + 1 + IN_JUNCTION, 0).astype(np.int64)
    offset = np.concatenate([[0], np.cumsum(places)]).astype(np.int32)
    first, last = np.arange(count, dtype=np.int32), np.arange(1, count + 1, dtype=np.int32)
    for edge in range(len(network.edges.ids)):
        own = np.arange(network.edges.first_lane[edge], network.edges.first_lane[edge + 1])
        used = own[motor[own]]
        if len(used):
            first[used], last[used] = used[0], used[-1] + 1
    stop, up = np.full(count, -1.0), np.full(count, -1.0)
    for place, role in ((stop, "stop"), (up, "upstream")):
        for i in street_loops(pieces, detectors, role).tolist():
            lane = detectors[i].lane
            place[pieces.line[lane]] = pieces.begin_m[lane] + detectors[i].position_m
    rows = network.lane_movements
    limit_mps, longest_m = lanes.speed_limit_mps.copy(), lanes.length_m.copy()
    ends_frac = np.zeros(count) if ends_frac is None else ends_frac
    parts = np.zeros(count, np.bool_)
    inner = np.array([(s, a) for a, s in pieces.belongings() if a != s], np.int32).reshape(-1, 2)
    inner = inner[np.lexsort((pieces.end_m[inner[:, 1]], inner[:, 0]))]
    for street, lane in inner.tolist():
        if lanes.length_m[lane] > longest_m[street]:
            limit_mps[street], longest_m[street] = lanes.speed_limit_mps[lane], lanes.length_m[lane]
        main = int(pieces.line[lane])
        parts[main] |= street != main and (up[main] < 0.0 or up[main] >= pieces.parted_m(main))
    return Streets(
        offset,
        pieces.end_m,
        limit_mps,
        stop,
        up,
        first,
        last,
        rows.offsets,
        rows.values.astype(np.int32),
        pieces.line[movements.to_lane],
        movements.length_m,
        movements.speed_mps,
        lanes.edge,
        ends_frac,
        pieces.beside,
        parts,
        pieces.begin_m[movements.to_lane],
        np.searchsorted(inner[:, 0], np.arange(count + 1)).astype(np.int32),
        pieces.end_m[inner[:, 1]],
        lanes.edge[inner[:, 1]],
        ends_frac[inner[:, 1]],
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
        inner_ending=np.zeros(len(streets.inner_end_m)),
        debt=floats(),
        seen_from_m=np.full(count, np.inf),
        seen_to_m=np.full(count, -np.inf),
        left=floats(),
    )
