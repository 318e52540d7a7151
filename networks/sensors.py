"""Where a city's sensors are: loops and roadside units placed by rule from the coverage.

The rules are deterministic: what is covered follows from stable hashes of ids and from geometry, never from chance,
so street, twin and a later run agree on it without exchanging a list.
"""

from __future__ import annotations

import hashlib

import numpy as np

from networks.city import Coverage, Detector
from networks.graph import MOTOR, Floats, Network

STOP_LOOP_M = 2.0  # before the stop line
UPSTREAM_LOOP_M = 100.0  # before the stop line
ENTRY_MARGIN_M = 5.0  # an upstream loop of a short lane lies this far into it
SHORTEST_LANE_M = 25.0  # a shorter lane gets no upstream loop


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


def default_detectors(network: Network, coverage: Coverage) -> tuple[Detector, ...]:
    """Stop-line and upstream loops on every motor lane of the covered signalised approaches, in order of the lanes.

    The stop loop lies 2 m before the stop line; the upstream loop 100 m before it, or 5 m into a shorter lane; lanes
    under 25 m have none. `coverage.loops` is the share of approaches that have loops.
    """
    approaches = list(approach_edges(network))
    ranked = sorted(approaches, key=lambda e: (stable_share(f"loops/{network.edges.ids[e]}"), e))
    covered = sorted(ranked[: round(coverage.loops * len(ranked))])
    detectors = []
    for edge in covered:
        for lane in range(network.edges.first_lane[edge], network.edges.first_lane[edge + 1]):
            if not network.lanes.allowed[lane] & MOTOR:
                continue
            name, length_m = network.lanes.ids[lane], float(network.lanes.length_m[lane])
            detectors.append(Detector(f"{name}_stop", lane, max(length_m / 2, length_m - STOP_LOOP_M), "stop"))
            if length_m >= SHORTEST_LANE_M:
                position_m = max(ENTRY_MARGIN_M, length_m - UPSTREAM_LOOP_M)
                detectors.append(Detector(f"{name}_upstream", lane, position_m, "upstream"))
    return tuple(detectors)


def signal_positions(network: Network) -> Floats:
    """Middle of each signal's junctions, local metres, (S, 2)."""
    return np.array([network.node_xy[list(s.nodes)].mean(axis=0) for s in network.signals]).reshape(-1, 2)


def instrumented_signals(network: Network, coverage: Coverage) -> tuple[int, ...]:
    """Signals with a roadside unit, ascending: the share `coverage.roadside`, spread evenly over the city.

    Farthest-point sampling (Gonzalez 1985), begun at the signal nearest to the middle of all.
    """
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
