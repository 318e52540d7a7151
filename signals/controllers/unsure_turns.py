"""Drivers whose turn nobody knows, on lanes that several movements share: in which stages they are counted on to go.

A plan made for one guess of the turns trusts it: it opens a stage for a first driver who in truth has red there, and
everybody behind waits. So every stream of a shared lane gets a twin, for those who are only thought to take it. The
twin is open in the stages that open its link and enough of its lane, by the turning shares. Stages that open a lane
whole so become worth more than those that open a part of it, within the roll-outs and without further draws.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from networks.graph import U_TURN, Floats, Int64s, Network
from signals.controllers import junction_choice_kernels as kernels
from signals.controllers.junction_choice import JunctionModel

LEAST_OPEN_FRAC = 0.75  # of a lane's drivers; where less is open, one of unknown turn is not counted on to go
U_TURN_SHARE = 0.02  # beside 1 for any other movement, where no shares are known


def with_twins(
    model: JunctionModel, network: Network, shares: Floats | None, least_open_frac: float = LEAST_OPEN_FRAC
) -> tuple[JunctionModel, Int64s]:
    """The model with twins behind its streams, and the twin of each stream (K,), itself where its lane has no other.

    `shares` (M,): of the from-lane; even where None.
    """
    layout = model.layout
    streams = len(layout.link_lane)
    if not len(model.lanes):  # people on foot alone
        return model, np.arange(streams)
    lane, part = layout.link_lane, _parts(model, network, shares)
    count = np.bincount(lane[lane >= 0], minlength=len(model.lanes))
    real = np.flatnonzero((lane >= 0) & (count[np.maximum(lane, 0)] > 1))
    twin_of = np.arange(streams)
    if not len(real) or least_open_frac <= 0.0:
        return model, twin_of
    twin_of[real] = streams + np.arange(len(real))
    beside = lane[real][:, None] == lane[None, :]  # (T, K) streams of the same lane
    open_frac = (layout.stages != kernels.CLOSED) @ (beside * part).T  # (S, T)
    twins = np.where(open_frac >= least_open_frac - 1e-6, layout.stages[:, real], kernels.CLOSED).astype(np.uint8)
    tail_s = np.stack([(layout.tail_s * row).max(axis=2) for row in beside], axis=2)  # (S, S, T)
    early_s = np.stack([layout.early_s[:, :, row].min(axis=2) for row in beside], axis=2)
    clear_s = np.zeros((streams + len(real), streams + len(real)))
    clear_s[:streams, :streams] = layout.clear_s
    yields_first, yields_to = _yields(layout, real, twin_of)
    nothing = np.zeros(len(real))
    doubled = layout._replace(
        stages=np.concatenate([layout.stages, twins], axis=1),
        tail_s=np.concatenate([layout.tail_s, tail_s], axis=2),
        early_s=np.concatenate([layout.early_s, early_s], axis=2),
        clear_s=clear_s,
        longest_clear_s=np.concatenate([layout.longest_clear_s, nothing]),
        min_green_s=np.concatenate([layout.min_green_s, nothing]),
        link_lane=np.concatenate([lane, lane[real]]),
        link_out=np.concatenate([layout.link_out, layout.link_out[real]]),
        yields_first=yields_first,
        yields_to=yields_to,
        inside_room=np.concatenate([layout.inside_room, layout.inside_room[real]]),
    )
    movement = np.concatenate([model.movement, np.full(len(real), -1)])  # whoever stands inside is counted once
    link_of = np.concatenate([model.link_of, model.link_of[real]])
    return replace(model, movement=movement, link_of=link_of, layout=doubled), twin_of


def _parts(model: JunctionModel, network: Network, shares: Floats | None) -> Floats:
    """(K,) share of its lane's drivers that each stream carries."""
    movement, lane = model.movement, model.layout.link_lane
    driven = movement >= 0
    if shares is not None:
        part = np.where(driven, np.maximum(shares[movement], 1e-3), 0.0)
    else:
        part = np.where(driven, np.where(network.movements.turn[movement] == U_TURN, U_TURN_SHARE, 1.0), 0.0)
    total = np.bincount(lane[driven], part[driven], len(model.lanes))
    whole: Floats = np.where(driven, part / np.maximum(total[np.maximum(lane, 0)], 1e-9), 0.0)
    return whole


def _yields(layout: kernels.Layout, real: Int64s, twin_of: Int64s) -> tuple[Int64s, Int64s]:
    """`Layout.yields_first` and `yields_to` with twins that give way, and are given way to, like their streams."""
    first, to = layout.yields_first, layout.yields_to
    rows = []
    for k in (*range(len(twin_of)), *real.tolist()):
        foes = to[first[k] : first[k + 1]]
        rows.append(np.unique(np.concatenate([foes, twin_of[foes]])))
    ends = np.cumsum([0, *(len(row) for row in rows)]).astype(np.int64)
    return ends, np.concatenate(rows).astype(np.int64)
