"""Flows of edges without loops, from the loops around them: what leaves one edge arrives on the next."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from networks.graph import Bools, Floats, Ints

ROUNDS = 12
LARGEST_STEP = 1.5  # of a flow in one round, either way


class Turns(NamedTuple):
    """Edge-to-edge movements (P,): `share` of what leaves `origin` goes to `target`."""

    origin: Ints
    target: Ints
    share: Floats


def edge_turns(movement_from: Ints, movement_to: Ints, edge: Ints, share: Floats, lane_rate: Floats) -> Turns:
    """Lane-level shares to edge-level ones, each lane weighted by its rate (evenly where nothing drove)."""
    origin, target = edge[movement_from], edge[movement_to]
    count = int(edge.max()) + 1 if len(edge) else 0
    weight = share * (lane_rate[movement_from] + 1e-4)
    total = np.bincount(origin, weight, count)
    return Turns(origin, target, weight / np.maximum(total[origin], 1e-12))


def balance_flows(start_vps: Floats, known: Bools, arriving_vps: Floats, turns: Turns) -> Floats:
    """Flows (E,) near `start_vps` that agree with the known ones up- and downstream; known ones stay.

    arriving_vps (E,) is what enters a known edge; it differs from what leaves while a queue grows.

    Multiplicative correction, as in iterative proportional fitting: each round an unknown edge is scaled by the mean,
    weighted by shares, of measured over expected inflow of the edges it feeds; and drawn halfway to its own inflow
    where all its feeders are known. Trips that begin or end between two edges are not modelled.
    """
    count = len(start_vps)
    flow = np.maximum(start_vps, 1e-5)
    feeders = np.bincount(turns.target, minlength=count)
    known_feeders = np.bincount(turns.target, known[turns.origin].astype(np.float64), count)
    fed = ~known & (feeders > 0) & (known_feeders >= feeders)
    into_known = known[turns.target] & ~known[turns.origin]
    weight = np.bincount(turns.origin[into_known], turns.share[into_known], count)
    scaled = weight > 0
    arriving = np.where(known, arriving_vps, 0.0)
    for _ in range(ROUNDS):
        inflow = np.bincount(turns.target, flow[turns.origin] * turns.share, count)
        ratio = np.clip((arriving + 1e-4) / (inflow + 1e-4), 1.0 / LARGEST_STEP, LARGEST_STEP)
        pull = np.bincount(turns.origin[into_known], (turns.share * np.log(ratio)[turns.target])[into_known], count)
        step = np.exp(pull / np.maximum(weight, 1e-9) * np.minimum(weight, 1.0))
        flow = np.where(scaled, flow * step, flow)
        flow = np.where(fed, 0.5 * flow + 0.5 * inflow, flow)
    return flow
