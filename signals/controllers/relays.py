"""What plans let over one stop line, as arrivals at the next: there long before detectors see them come.

Relayed one cycle later, junctions fit their greens to those before them, without a common cycle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from networks.graph import Bools, Floats, Int64s, Ints, Network
from signals.controllers.approach_rows import NOWHERE, UNKNOWN, ApproachRows, join
from signals.controllers.approaches import StopLineMap


@dataclass(frozen=True, slots=True)
class RelayedRows:
    """Vehicles that plans let over one stop line, on their way to the next; epoch seconds."""

    signal: Ints  # (R,) of the next stop line
    link: Ints  # (R,) link it will probably use there
    movement: Ints  # (R,)
    distance_m: Floats  # (R,) to the next stop line, the longer the later it crosses the first
    crosses_at_s: Floats  # (R,) the first stop line; from then on detectors see it on its way to the next
    arrives_at_s: Floats  # (R,) at the next stop line
    weight: Floats  # (R,)
    sure: Bools  # (R,)


def relay(
    rows: ApproachRows,
    crossings: Sequence[tuple[Int64s, Floats]],
    network: Network,
    lines: StopLineMap,
    valid_from_s: float,
) -> RelayedRows | None:
    """What each junction will let go as arrivals at the next stop line; None where nothing is planned.

    `crossings`: of each junction the rows that cross its stop lines, and how many seconds after the plan's begin.
    """
    if not crossings:
        return None
    row = np.concatenate([own for own, _ in crossings])
    crossing = np.concatenate([seconds for _, seconds in crossings])
    moves = network.movements
    out = moves.to_lane[rows.movement[row]]
    unknown = rows.onward_signal[row] == UNKNOWN
    begin = np.where(unknown, out, -1).astype(np.int32)  # of others the way is told, and nothing followed
    lane, ahead_m = lines.follow(begin, np.full(len(out), -1, np.int32), np.arange(len(out)), network)
    guessed = np.where(lines.lane[lane] == lane, lines.signal[lane], NOWHERE)
    signal = np.where(unknown, guessed, rows.onward_signal[row])
    kept = signal >= 0
    row, crossing, signal = row[kept], crossing[kept], signal[kept]
    out, lane, ahead_m = out[kept], lane[kept], ahead_m[kept]
    here, known = rows.movement[row], rows.onward_signal[row] >= 0
    distance = np.where(known, rows.onward_m[row], network.lanes.length_m[out] + ahead_m)
    limit = np.maximum(network.lanes.speed_limit_mps[out], 3.0)
    inside_s = np.where(known, 0.0, moves.length_m[here] / np.maximum(moves.speed_mps[here], 3.0))
    guess = lines.pick_by_share(lane, np.arange(len(out)))
    onward = np.where(known, -1, guess)
    return RelayedRows(
        signal=signal.astype(np.int32),
        link=np.where(known, rows.onward_link[row], lines.movement_link[guess]).astype(np.int32),
        movement=onward.astype(np.int32),
        distance_m=distance + crossing * 10.0,
        crosses_at_s=crossing + valid_from_s,
        arrives_at_s=valid_from_s + crossing + inside_s + distance / limit,
        weight=rows.weight[row],
        sure=known,
    )


def with_relayed(
    rows: ApproachRows, relayed: RelayedRows | None, valid_from_s: float, horizon_s: float
) -> ApproachRows:
    """The rows, and relayed vehicles that have yet to cross their first stop line: nobody sees them here."""
    if relayed is None:
        return rows
    use = (relayed.crosses_at_s >= valid_from_s) & (relayed.arrives_at_s < valid_from_s + horizon_s)
    count = int(use.sum())
    expected = ApproachRows(
        signal=relayed.signal[use],
        link=relayed.link[use],
        movement=relayed.movement[use],
        distance_m=relayed.distance_m[use],
        arrival_s=relayed.arrives_at_s[use] - valid_from_s,
        wait_s=np.zeros(count),
        weight=relayed.weight[use],
        stopped=np.zeros(count, np.bool_),
        onward_signal=np.full(count, UNKNOWN, np.int32),
        onward_link=np.full(count, -1, np.int32),
        onward_m=np.zeros(count),
        sure=relayed.sure[use],
    )
    return join(rows, expected)
