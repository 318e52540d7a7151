"""Greens that let through what was counted: shipped programmes, shifted where they are too short for the demand.

Programmes published with a network are often older than its counts. Where the demand that meets the counts would not
pass, the street's signals cannot be those; its cycle is kept, and as few seconds as possible are moved.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
from scipy.optimize import linprog

from networks.graph import Bools, Floats, Network, Programme
from scenarios.shares import spread_over_lanes

SATURATION_VPH = 1700.0  # of a lane of SUMO's cars with ordinary drivers; 1,800 to 1,900 in HCM 2016, chapter 19
YIELDING = 0.4  # of it, for a green that gives way
BUSY = 0.9  # flow over capacity from which queues do not clear in each cycle; up to here nothing is touched
LEAST_GREEN_S = 6.0
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
    with path.open("w", encoding="utf-8") as out:
        out.write("<additional>\n")
        for number, signal in enumerate(network.signals):
            if not signal.programmes:
                continue
            shipped = signal.programmes[0]
            greens = fit_greens(network, number, movement_vph)
            if greens is None:
                continue
            changed.append(signal.id)
            offset = f'programID="{NAME}" offset="{shipped.offset_s:g}"'
            out.write(f'<tlLogic id={quoteattr(signal.id)} type="static" {offset}>\n')
            for phase, length_s in zip(shipped.phases, greens.tolist(), strict=True):
                out.write(f'<phase duration="{length_s:g}" state="{phase.state}"/>\n')
            out.write("</tlLogic>\n")
        out.write("</additional>\n")
    return tuple(changed)


def fit_greens(network: Network, signal: int, movement_vph: Floats) -> Floats | None:
    """(P,) whole seconds of the phases of a signal's shipped programme; None where they may stay as they are.

    The largest flow over capacity of any lane is made as small as the cycle allows, but not below `BUSY`, and among
    such greens those nearest to the shipped ones are taken (a linear programme, Allsop 1972, Transportation 1).
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
    rows = np.flatnonzero(green)
    if len(rows) < 2:
        return None
    count = len(rows)  # unknowns: greens, how far each is off, and the part of the flow that has room
    fixed = served[:, ~green] @ lengths[~green]
    room = np.hstack([-served[:, rows], np.zeros((len(flow), count)), (flow / BUSY)[:, None]])
    one, nothing = np.eye(count), np.zeros((count, 1))
    off = [np.hstack([one, -one, nothing]), np.hstack([-one, -one, nothing])]
    found = linprog(
        np.concatenate([np.zeros(count), np.ones(count), [-1e4]]),
        A_ub=np.vstack([room, *off]),
        b_ub=np.concatenate([fixed, lengths[rows], -lengths[rows]]),
        A_eq=np.concatenate([np.ones(count), np.zeros(count + 1)])[None],
        b_eq=[lengths[rows].sum()],
        bounds=[(min(LEAST_GREEN_S, lengths[r]), None) for r in rows] + [(0.0, None)] * count + [(0.0, 1.0)],
    )
    if found.x is None:
        return None
    fitted = lengths.copy()
    fitted[rows] = _whole(found.x[:count], float(lengths[rows].sum()))
    return None if np.array_equal(fitted, lengths) else fitted


def _lanes(network: Network, signal: int, shipped: Programme, movement_vph: Floats) -> tuple[Floats, Floats]:
    """Of every lane that anybody uses: how open it is in each phase (N, P), and its flow (N,)."""
    moves = network.movements
    own = np.flatnonzero(moves.signal == signal)
    own = own[moves.link[own] < len(shipped.phases[0].state)]
    rate = {"G": 1.0, "g": YIELDING}
    flow, opened = [], []
    for lane in np.unique(moves.from_lane[own]).tolist():
        mine = own[moves.from_lane[own] == lane]
        if movement_vph[mine].sum() <= 0:
            continue
        part = movement_vph[mine] / movement_vph[mine].sum()
        flow.append(float(movement_vph[mine].sum()))
        opened.append(
            [
                float(sum(p * rate.get(phase.state[k], 0.0) for p, k in zip(part, moves.link[mine], strict=True)))
                for phase in shipped.phases
            ]
        )
    return np.array(opened).reshape(-1, len(shipped.phases)), np.array(flow)


def _whole(greens: Floats, total_s: float) -> Floats:
    """Whole seconds near the greens with the same sum, but for a fraction of the shipped ones."""
    whole = np.floor(greens)
    missing = round(total_s - whole.sum())
    whole[np.argsort(whole - greens, kind="stable")[:missing]] += 1.0
    return whole
