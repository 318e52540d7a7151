"""What fusion takes from the prior of a demand, if there is one: turning shares, flows, and where trips end."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from networks.graph import Bools, Floats, Network
from networks.state import History


class PriorView(Protocol):
    """What is used of `scenarios.prior.Prior`."""

    @property
    def profile(self) -> History: ...
    @property
    def departed_vps(self) -> Floats: ...
    @property
    def arrived_vps(self) -> Floats: ...
    @property
    def movement_share(self) -> Floats: ...
    @property
    def movement_vehicles(self) -> Floats: ...


def turning_shares(network: Network, prior: PriorView | None) -> tuple[Floats, Bools]:
    """Turning shares that sum to 1 on every lane, and where they rest on a prior."""
    origin, count = network.movements.from_lane, len(network.lanes.ids)
    ways = np.bincount(origin, minlength=count)[origin]
    share = 1.0 / np.maximum(ways, 1)
    known = np.zeros(len(origin), np.bool_)
    if prior is not None:
        told = np.nan_to_num(np.asarray(prior.movement_share, dtype=np.float64), nan=0.0).clip(0.0)
        total = np.bincount(origin, told, count)[origin]
        known = total > 0
        share = np.where(known, told / np.where(known, total, 1.0), share)
    return share, known


def ends_frac(network: Network, prior: PriorView | None) -> Floats:
    """(E,) share of the vehicles of an edge that end their trip on it; 0 where nothing is known."""
    if prior is None:
        return np.zeros(len(network.edges.ids))
    flow = np.where(prior.profile.valid, prior.profile.flow_vps, 0.0).sum(axis=0)
    share: Floats = np.clip(prior.arrived_vps.sum(axis=0) / np.where(flow > 0.0, flow, np.inf), 0.0, 1.0)
    return share


def mean_flow(network: Network, prior: PriorView | None) -> Floats:
    """(E,) mean flow that the prior expects, veh/s; NaN where it knows none."""
    if prior is None or not prior.profile.grid.count:
        return np.full(len(network.edges.ids), np.nan)
    known = prior.profile.valid
    total = np.where(known, prior.profile.flow_vps, 0.0).sum(axis=0)
    return np.where(known.any(axis=0), total / np.maximum(known.sum(axis=0), 1), np.nan)
