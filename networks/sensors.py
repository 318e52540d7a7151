"""Where a city's sensors are: its own lists, or loops and roadside units placed by rule from a share.

The rules are deterministic: what is covered follows from stable hashes of ids and from geometry, never from chance,
so street, twin and a later run agree on it without exchanging a list.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from networks.city import Coverage, Detector
from networks.errors import InputError
from networks.graph import MOTOR, Floats, Ints, Network
from networks.pieces import StreetPieces, join_pieces
from networks.readers.table import read_rows

STOP_LOOP_M = 2.0  # before the stop line
UPSTREAM_LOOP_M = 100.0  # before the stop line
ENTRY_MARGIN_M = 5.0  # an upstream loop of a short street lies this far into it
SHORTEST_STREET_M = 25.0  # a shorter one gets no upstream loop
AT_STOP_LINE_M = 5.0
ROLES = ("stop", "upstream", "count")


def stable_share(text: str) -> float:
    """A number in [0, 1) that follows from the text alone: equal on every machine and in every run."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest(), "big") / 2.0**56


def approach_edges(network: Network) -> dict[int, int]:
    """Edges that end at a signal -> the signal (dense indices), in order of the edges."""
    pairs = {
        int(network.lanes.edge[lane]): int(signal)
        for lane, signal in zip(network.movements.from_lane, network.movements.signal, strict=True)
        if signal >= 0
    }
    return dict(sorted(pairs.items()))


def find_detectors(network: Network, coverage: Coverage) -> tuple[Detector, ...]:
    """The loops of a city, in order of the lanes: those that it lists, or those of a share of its approaches.

    Raises InputError naming file, line and field of a list that cannot be used.
    """
    if isinstance(coverage.loops, Path):
        return list_detectors(network, coverage.loops)
    return place_detectors(network, coverage.loops)


def list_detectors(network: Network, path: Path) -> tuple[Detector, ...]:
    """Loops of a CSV with the columns id, lane (id in the network), position_m (from its begin) and perhaps role.

    A role that is not told follows from the place: `stop` within 5 m of the stop line of a signal, `upstream`
    elsewhere on the streets before it, `count` on all others. Raises InputError naming file, line and field.
    """
    approaches, line = approach_edges(network), join_pieces(network).line
    found: dict[str, Detector] = {}
    for where, cells in read_rows(path, ("id", "lane", "position_m")):
        row = {name: cell.strip() for name, cell in cells.items()}
        if not row["id"] or row["id"] in found:
            raise InputError(f"{where}: id: {row['id']!r} is empty or stands there twice")
        lane = network.lane_index.get(row["lane"])
        if lane is None:
            raise InputError(f"{where}: lane: the network has no lane {row['lane']!r}")
        length_m = float(network.lanes.length_m[lane])
        try:
            position_m = float(row["position_m"])
        except ValueError:
            position_m = np.nan
        if not 0.0 <= position_m <= length_m:
            raise InputError(f"{where}: position_m: {row['position_m']!r} is not on the lane, 0 to {length_m:.1f}")
        role = row.get("role", "")
        if not role:
            at_line = line[lane] == lane and position_m >= length_m - AT_STOP_LINE_M
            on_approach = int(network.lanes.edge[line[lane]]) in approaches
            role = ("stop" if at_line else "upstream") if on_approach else "count"
        if role not in ROLES:
            raise InputError(f"{where}: role: {role!r} is none of {', '.join(ROLES)}")
        found[row["id"]] = Detector(row["id"], lane, position_m, role)
    return tuple(sorted(found.values(), key=lambda d: (d.lane, d.role, d.position_m)))


def covers_approaches(network: Network, detectors: Sequence[Detector]) -> bool:
    """Whether every motor lane of every signalised approach has a loop."""
    seen = {d.lane for d in detectors}
    motor = (network.lanes.allowed & MOTOR) != 0
    lanes = np.flatnonzero(np.isin(network.lanes.edge, list(approach_edges(network))) & motor)
    return seen >= set(lanes.tolist())


def place_detectors(network: Network, share: float) -> tuple[Detector, ...]:
    """Stop-line and upstream loops on every motor lane of a share of signalised approaches, in order of the lanes.

    The stop loop lies 2 m before the stop line, where who waits stands on it; the upstream loop 100 m before it, or
    5 m into a shorter street; streets under 25 m have none. A street is followed over the pieces that it is drawn in
    (`networks.pieces`). Where a lane parts less than 100 m before the line, each lane has its loop 5 m after that, if
    25 m are left; else one loop before it sees both.
    """
    approaches = list(approach_edges(network))
    ranked = sorted(approaches, key=lambda e: (stable_share(f"loops/{network.edges.ids[e]}"), e))
    covered = sorted(ranked[: round(share * len(ranked))])
    pieces = join_pieces(network)
    stops: list[Detector] = []
    upstream: dict[int, Detector] = {}
    for edge in covered:
        for lane in range(network.edges.first_lane[edge], network.edges.first_lane[edge + 1]):
            if not network.lanes.allowed[lane] & MOTOR:
                continue
            stops.append(_stop_loop(network, pieces, lane))
            street_m, own_m = float(pieces.end_m[lane]), pieces.parted_m(lane)
            if street_m < SHORTEST_STREET_M:
                continue
            from_m = own_m if street_m - own_m >= SHORTEST_STREET_M else 0.0
            along_m = max(from_m + ENTRY_MARGIN_M, street_m - UPSTREAM_LOOP_M)
            piece, place_m = pieces.locate(np.array([lane]), np.array([along_m]))
            own, position_m = int(piece[0]), max(float(place_m[0]), 0.0)
            upstream.setdefault(own, Detector(f"{network.lanes.ids[own]}_upstream", own, position_m, "upstream"))
    return tuple(sorted([*stops, *upstream.values()], key=lambda d: (d.lane, d.role)))


def _stop_loop(network: Network, pieces: StreetPieces, lane: int) -> Detector:
    name, length_m = f"{network.lanes.ids[lane]}_stop", float(network.lanes.length_m[lane])
    before = int(pieces.before[lane])
    if length_m >= STOP_LOOP_M or before < 0 or pieces.parting[before]:
        return Detector(name, lane, max(length_m / 2, length_m - STOP_LOOP_M), "stop")
    before_m = float(network.lanes.length_m[before])
    along_m = float(pieces.end_m[lane] - pieces.begin_m[before]) - STOP_LOOP_M
    return Detector(name, before, float(np.clip(along_m, before_m / 2, before_m - 0.1)), "stop")


def cabinets(network: Network, detectors: Sequence[Detector]) -> Ints:
    """The signal whose cabinet each loop (D,) is wired to: that of its street, else the nearest."""
    if not detectors:
        return np.zeros(0, np.int32)
    signal_of, line = approach_edges(network), join_pieces(network).line
    xy = signal_positions(network)
    found = []
    for detector in detectors:
        signal = signal_of.get(int(network.lanes.edge[line[detector.lane]]), -1)
        if signal < 0:
            end = np.asarray(network.lanes.shape_xy[detector.lane], np.float64).reshape(-1, 2)[-1]
            signal = int(np.argmin(np.linalg.norm(xy - end, axis=1)))
        found.append(signal)
    return np.array(found, np.int32)


def signal_positions(network: Network) -> Floats:
    """Middle of each signal's junctions, local metres, (S, 2)."""
    return np.array([network.node_xy[list(s.nodes)].mean(axis=0) for s in network.signals]).reshape(-1, 2)


def instrumented_signals(network: Network, coverage: Coverage) -> tuple[int, ...]:
    """Signals with a roadside unit, ascending: those that the city lists, or a share, spread evenly over the city.

    Farthest-point sampling (Gonzalez 1985), begun at the signal nearest to the middle of all. Raises InputError for a
    listed signal that the network lacks.
    """
    if isinstance(coverage.roadside, tuple):
        for name in coverage.roadside:
            if name not in network.signal_index:
                raise InputError(f"coverage.roadside: the network has no signal {name!r}")
        return tuple(sorted({network.signal_index[name] for name in coverage.roadside}))
    eligible = [i for i, s in enumerate(network.signals) if any(s.link_movements)]
    wanted = round(coverage.roadside * len(eligible))
    if not wanted:
        return ()
    xy = signal_positions(network)[eligible]
    chosen = [int(np.argmin(np.linalg.norm(xy - xy.mean(axis=0), axis=1)))]
    gap_m = np.linalg.norm(xy - xy[chosen[0]], axis=1)
    while len(chosen) < wanted:
        gap_m[chosen] = -1.0
        chosen.append(int(np.argmax(gap_m)))
        gap_m = np.minimum(gap_m, np.linalg.norm(xy - xy[chosen[-1]], axis=1))
    return tuple(sorted(eligible[i] for i in chosen))
