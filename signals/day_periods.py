"""Where the day changes: periods of even traffic, found from how the flow of every approach runs through time.

Flows of all signals are cut into consecutive periods so that each is as even as it can be: the partition with the
least squared deviation from the means of its periods, found exactly by dynamic programming (Fisher 1958, "On grouping
for maximum homogeneity"; Jackson et al. 2005 for the form used here). Deviations are weighed by what chance (Poisson)
and indifference (a tenth of the flow) explain; a further break has to explain more than the Bayesian information
criterion (Schwarz 1978) asks of the means that it adds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from networks.errors import InputError
from networks.graph import Floats, Network
from signals.retime_flows import signal_turns

SLOT_S = 300.0
SHORTEST_PERIOD_S = 1800.0  # a change of plans disturbs traffic for some cycles
MOST_PERIODS = 8
SAME_FRAC = 0.1  # of a flow: less of a change deserves no plan of its own


def flow_profiles(
    network: Network, routes: Sequence[Sequence[int]], depart_s: Floats, begin_s: float, end_s: float
) -> Floats:
    """(T, F) vehicles that reach each signalised approach in each slot of `SLOT_S`, on free streets.

    Vehicles after the last slot are left out; one column an approach that somebody uses.
    """
    turns = signal_turns(network)
    free_s = network.edges.length_m / np.maximum(network.edges.speed_limit_mps, 1.0)
    slots = max(1, math.ceil((end_s - begin_s) / SLOT_S))
    column: dict[int, int] = {}
    hits: list[tuple[int, int]] = []
    for route, set_off_s in zip(routes, depart_s.tolist(), strict=True):
        at_s = set_off_s - begin_s
        for here, after in pairwise(route):
            at_s += float(free_s[here])
            slot = int(at_s // SLOT_S)
            if (here, after) in turns and 0 <= slot < slots:
                hits.append((slot, column.setdefault(here, len(column))))
    counts = np.zeros((slots, len(column)))
    for slot, place in hits:
        counts[slot, place] += 1.0
    return counts


def find_breaks(profiles: Floats, *, least: int, most: int, exactly: int | None = None) -> tuple[int, ...]:
    """Rows (T) at which a new period begins, of the best cut of `profiles` (T, F).

    Periods have `least` rows or more; there are `exactly` so many, or as many as are worth it, `most` of them.
    Raises InputError when they do not fit.
    """
    rows = len(profiles)
    wanted = exactly or 1
    if wanted * least > rows and wanted > 1:
        raise InputError(f"{wanted} periods of {least * SLOT_S / 60:g} min or more do not fit into {rows} slots")
    costs = _segment_costs(profiles, least)
    count = exactly or max(1, min(most, rows // max(1, least)))
    best, before = _partitions(costs, count)
    if exactly is None:
        penalty = profiles.shape[1] * math.log(max(rows, 2))
        count = 1 + int(np.argmin([best[k, rows] + penalty * k for k in range(count)]))
    breaks: list[int] = []
    end = rows
    for k in range(count - 1, 0, -1):
        end = int(before[k, end])
        breaks.append(end)
    return tuple(breaks[::-1])


def _segment_costs(profiles: Floats, least: int) -> Floats:
    """(T+1, T+1) weighted squared deviation of rows i..j from their mean, inf where they are too few."""
    rows = len(profiles)
    mean = profiles.mean(axis=0) if rows else np.zeros(profiles.shape[1])
    scaled = profiles / np.sqrt(np.maximum(mean + (SAME_FRAC * mean) ** 2, 1e-9))
    sums = np.concatenate([np.zeros((1, scaled.shape[1])), np.cumsum(scaled, axis=0)])
    squares = np.concatenate([np.zeros(1), np.cumsum((scaled**2).sum(axis=1))])
    costs = np.full((rows + 1, rows + 1), np.inf)
    for i in range(rows):
        ends = np.arange(min(rows, i + max(1, least)), rows + 1)
        ends = ends[ends - i >= min(rows, max(1, least))]
        total = ((sums[ends] - sums[i]) ** 2).sum(axis=1) / np.maximum(ends - i, 1)
        costs[i, ends] = np.maximum(squares[ends] - squares[i] - total, 0.0)
    return costs


def _partitions(costs: Floats, count: int) -> tuple[Floats, Floats]:
    """(count, T+1) least cost of the first rows in k+1 periods, and where the last of these begins."""
    width = len(costs)
    best = np.full((count, width), np.inf)
    before = np.zeros((count, width))
    best[0] = costs[0]
    for k in range(1, count):
        candidates = best[k - 1][:, None] + costs
        before[k] = np.argmin(candidates, axis=0)
        best[k] = candidates.min(axis=0)
    return best, before
