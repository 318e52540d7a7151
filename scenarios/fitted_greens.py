"""Greens that let through what was counted: shipped programmes, shifted where they are too short for the demand.

Programmes published with a network are often older than its counts. Where the demand that meets the counts would not
pass, the street's signals cannot be those; its cycle is kept, and as few seconds as possible are moved.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from scipy.optimize import linprog

from networks.graph import Bools, Floats, Ints, Network, Programme, ProgrammePhase
from scenarios.count_replay import HOUR_S
from scenarios.shares import spread_over_lanes
from signals.formats.book import NamedProgramme, PlanBook
from signals.formats.sumo import book_to_sumo

SATURATION_VPH = 1700.0  # of a lane of SUMO's cars with ordinary drivers; 1,800 to 1,900 in HCM 2016, chapter 19
GAP_S, FOLLOW_S = 4.5, 2.5  # gap taken by those who give way at green, and from one to the next in it (the same)
BUSY = 0.9  # flow over capacity from which queues do not clear in each cycle; up to here nothing is touched
SHORT_FRAC, FAR_SHORT = 0.1, 3.0  # of a lane's flow: what is missing beyond this part of it weighs so much more
MOVED = 0.1  # vehicles an hour without room that a moved second weighs
SNEAKERS = 2.0  # of those who give way go at the end of a green, even if there was no gap
LEAST_GREEN_S = 6.0  # of a link at a stretch
LEAST_PHASE_S = 1.0  # of a phase that only goes on with greens of the one before it
NAME = "citytwin_fitted"


def write_fitted_greens(
    network: Network, routes: Sequence[tuple[int, ...]], flow_vph: Floats, path: Path
) -> tuple[str, ...]:
    """Write a SUMO additional file of the changed programmes, to be loaded after the shipped ones; their signals.

    flow_vph (R,): vehicles an hour of each route, of the busiest hour.
    """
    pairs: dict[tuple[int, int], float] = {}
    for route, flow in zip(routes, flow_vph.tolist(), strict=True):
        for pair in pairwise(route):
            pairs[pair] = pairs.get(pair, 0.0) + flow
    order = sorted(pairs)
    _, movement_vph = spread_over_lanes(
        network, np.array(order, np.int32).reshape(-1, 2), np.array([pairs[pair] for pair in order])
    )
    changed = []
    for number, signal in enumerate(network.signals):
        greens = fit_greens(network, number, movement_vph) if signal.programmes else None
        if greens is None:
            continue
        shipped = signal.programmes[0]
        lengths_s = zip(shipped.phases, greens.tolist(), strict=True)
        phases = tuple(ProgrammePhase(phase.state, s, s, s) for phase, s in lengths_s)
        changed.append(NamedProgramme(signal.id, Programme(NAME, "static", shipped.offset_s, phases)))
    path.write_text(book_to_sumo(PlanBook(tuple(changed))).text, encoding="utf-8")
    return tuple(named.signal_id for named in changed)


def fit_greens(network: Network, signal: int, movement_vph: Floats) -> Floats | None:
    """(P,) whole seconds of the phases of a signal's shipped programme; None where they may stay as they are.

    As many vehicles as the cycle allows find room, no lane filled beyond `BUSY`; who does not is spread over lanes,
    and few seconds are moved (a linear programme, after Allsop 1972, Transportation 1).
    movement_vph (M,): flows of the network's movements.
    """
    shipped = network.signals[signal].programmes[0]
    lengths = np.array([phase.duration_s for phase in shipped.phases])
    open_frac, flow = _lanes(network, signal, shipped, movement_vph)
    served = SATURATION_VPH / shipped.cycle_s * open_frac  # (lanes, P) vehicles an hour for each second
    if not len(flow) or (served @ lengths >= flow / BUSY).all():
        return None
    states = [phase.state for phase in shipped.phases]
    green: Bools = np.array(["y" not in state and not set(state).isdisjoint("Gg") for state in states])
    rows = np.flatnonzero(green).astype(np.int32)
    if len(rows) < 2:
        return None
    count, lanes = len(rows), len(flow)
    short = lengths[rows]
    one, lane = np.eye(count), np.eye(lanes)  # unknowns: greens, how far each is off, flow that finds no room
    none, nobody = np.zeros((count, 2 * lanes)), np.zeros((lanes, count))
    stretch, least_s = _stretches(states, lengths, rows)
    clears = np.array(["y" in states[row - 1] for row in rows])
    shortest = np.minimum(np.where(clears, LEAST_GREEN_S, LEAST_PHASE_S), short)
    found = linprog(
        np.concatenate([np.zeros(count), np.full(count, MOVED), np.ones(lanes), np.full(lanes, FAR_SHORT)]),
        A_ub=np.vstack(
            [
                np.hstack([-served[:, rows], nobody, -lane, -lane]),
                np.hstack([one, -one, none]),
                np.hstack([-one, -one, none]),
                np.hstack([-stretch, np.zeros((len(stretch), count + 2 * lanes))]),
            ]
        ),
        b_ub=np.concatenate([served[:, ~green] @ lengths[~green] - flow / BUSY, short, -short, -least_s]),
        A_eq=np.concatenate([np.ones(count), np.zeros(count + 2 * lanes)])[None],
        b_eq=[short.sum()],
        bounds=[*((s, None) for s in shortest)]
        + [(0.0, None)] * count
        + [(0.0, SHORT_FRAC * f) for f in flow]
        + [(0.0, None)] * lanes,
    )
    if found.x is None:
        return None
    fitted = lengths.copy()
    fitted[rows] = _whole(found.x[:count])
    return None if np.array_equal(fitted, lengths) else fitted


def _stretches(states: Sequence[str], lengths: Floats, rows: Ints) -> tuple[Floats, Floats]:
    """Unbroken greens of links, as sums of the phases `rows` (S, K), and how long each must last at least (S,)."""
    count = len(states)
    found: dict[tuple[int, ...], float] = {}
    for link in range(len(states[0])):
        opened = [state[link] in "Gg" for state in states]
        if all(opened):
            continue
        for begin in range(count):
            if opened[begin] and not opened[begin - 1]:
                length = next(n for n in range(count) if not opened[(begin + n) % count])
                members = tuple(sorted((begin + n) % count for n in range(length)))
                found[members] = min(LEAST_GREEN_S, float(lengths[list(members)].sum()))
    inside = np.array([np.isin(rows, members) for members in found], np.float64).reshape(-1, len(rows))
    elsewhere = np.array([lengths[np.setdiff1d(members, rows)].sum() for members in found])
    return inside, np.array(list(found.values())) - elsewhere


def _lanes(network: Network, signal: int, shipped: Programme, movement_vph: Floats) -> tuple[Floats, Floats]:
    """Of every lane that anybody uses: how open it is in each phase (N, P), and its flow (N,)."""
    moves = network.movements
    own = np.flatnonzero(moves.signal == signal).astype(np.int32)
    own = own[moves.link[own] < len(shipped.phases[0].state)]
    speed = _open_rates(network, own, shipped, movement_vph)
    flow, opened = [], []
    for lane in np.unique(moves.from_lane[own]).tolist():
        mine = np.flatnonzero(moves.from_lane[own] == lane)
        lane_vph = movement_vph[own[mine]]
        if lane_vph.sum() <= 0:
            continue
        part, rate = lane_vph / lane_vph.sum(), speed[mine]
        going = (part[:, None] * (rate > 0)).sum(axis=0)
        each = (part[:, None] * np.divide(1.0, rate, out=np.zeros_like(rate), where=rate > 0)).sum(axis=0)
        flow.append(float(lane_vph.sum()))
        opened.append(np.divide(going**2, each, out=np.zeros_like(going), where=each > 0))  # one after the other
    return np.array(opened).reshape(-1, len(shipped.phases)), np.array(flow)


def _open_rates(network: Network, own: Ints, shipped: Programme, movement_vph: Floats) -> Floats:
    """(K, P) part of the saturation flow at which each of a signal's movements discharges in each phase.

    Who gives way goes in the gaps of those who are open as well and go first (HCM 2016, chapter 19, permitted turns).
    """
    moves = network.movements
    states = [phase.state for phase in shipped.phases]
    lamps = np.array([[state[link] for state in states] for link in moves.link[own].tolist()])
    lamps = lamps.reshape(len(own), len(states))
    opened = np.isin(lamps, ("G", "g"))
    lengths = np.array([phase.duration_s for phase in shipped.phases])
    going_vph = movement_vph[own] * shipped.cycle_s / np.maximum(opened @ lengths, 1.0)
    rate = opened.astype(np.float64)
    first = moves.gives_way_to
    for k in np.flatnonzero((lamps == "g").any(axis=1)).tolist() if len(first) else ():
        before = np.isin(own, first[int(own[k])])
        met_vph = going_vph[before] @ opened[before]
        gaps_vph = np.exp(-met_vph * GAP_S / HOUR_S) * _per_gap(met_vph)
        least_vph = SNEAKERS * HOUR_S / float(opened[k] @ lengths)
        rate[k] = np.where(lamps[k] == "g", np.clip(gaps_vph, least_vph, SATURATION_VPH) / SATURATION_VPH, rate[k])
    return rate


def _per_gap(met_vph: Floats) -> Floats:
    """Vehicles an hour that would go if every gap were long enough for one: flow over the chance of no second."""
    filled = -np.expm1(-met_vph * FOLLOW_S / HOUR_S)
    return np.divide(met_vph, filled, out=np.full_like(met_vph, HOUR_S / FOLLOW_S), where=filled > 0)


def _whole(greens: Floats) -> Floats:
    """Whole seconds, but for a fraction of the last: no stretch is off by more than one, and the sum stays."""
    ends = np.cumsum(greens)
    ends[:-1] = np.round(ends[:-1])
    return np.round(np.diff(ends, prepend=0.0), 6)  # differences of fractions are off by bits
