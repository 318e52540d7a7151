"""What passes between the loop and the mirror's process: plain arrays, no library beyond numpy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from networks.batches import ControlNotice
from networks.city import Detector
from networks.graph import Bools, Floats, Network
from networks.messages import NoticeReport
from networks.state import Estimate, NetworkState

EARLIEST_S = 1e-6  # simulated seconds: a notice from before the begin
LAMPS_FRESH_S = 10.0  # an older report leaves the signal to its shipped programme, as the street's controller does
EVIDENCE_FRESH_S = 15.0  # lane counts older than this correct nothing
FLOW_EVIDENCE_FRESH_S = 120.0  # loops report every minute or faster


class LampOrder(NamedTuple):
    """Lamps of one signal as last reported, with the simulated second at which each link took its colour."""

    state: str
    since_s: Floats


@dataclass(frozen=True, slots=True)
class Observation:
    """What the mirror needs of one fused state. NaN: no evidence of its own."""

    until_s: float  # simulated second to step to
    lamps: tuple[LampOrder | None, ...]  # per signal; None: not heard lately
    edge_flow_vps: Floats  # (E,)
    lane_vehicles: Floats  # (L,)
    lane_vehicles_sd: Floats  # (L,)
    lane_queue_veh: Floats  # (L,)
    notices: tuple[NoticeReport, ...] = ()  # closures and works known now, in simulated seconds


class Change(NamedTuple):
    """One vehicle put into or taken out of the mirror's traffic by hand."""

    at_s: float  # simulated second
    action: str  # "insert", "remove", "copy" (of a scheduled departure), "thin" (a departure dropped)
    vehicle: str
    edge: int


@dataclass(frozen=True, slots=True)
class MirrorEstimate:
    """The mirror's traffic. Flow and speed are over the last 300 s, everything else is now."""

    now_s: float  # UTC epoch
    edge_flow_vps: Floats  # (E,) vehicles a second leaving the edge
    edge_speed_mps: Floats  # (E,) space mean; the speed limit where nobody drove
    edge_samples: Floats  # (E,) vehicle-seconds behind the speed
    movement_vps: Floats  # (M,) by turn; movements between the same two edges share theirs evenly
    edge_density_vpm: Floats  # (E,) all lanes together
    lane_queue_veh: Floats  # (L,) slower than 2 m/s
    lane_vehicles: Floats  # (L,)
    demand_factor: Floats  # (E,) measured over scheduled departures, for vehicles whose first sensor is this edge
    backlog_veh: int  # scheduled but not yet on the road
    teleports: int
    departed: int
    arrived: int
    running: int
    inserted: int  # put on the road to match lane counts
    removed: int  # taken off the road to match lane counts
    copied: int  # extra departures
    thinned: int  # departures dropped
    changes: tuple[Change, ...]  # since the estimate before
    lamps: tuple[str, ...]  # what each signal shows


class Snapshot(NamedTuple):
    """A saved mirror: SUMO's state file and what the corrections remember."""

    at_s: float  # simulated second
    file: str
    memory: bytes
    lamps: tuple[str | None, ...]  # (J,) what each signal showed; None: its shipped programme ran
    seed: int


@dataclass(frozen=True, slots=True)
class Watched:
    """Where the street has loops, so that a fused value there is evidence and not the mirror's own word come back."""

    edges: Bools  # (E,)
    lanes: Bools  # (L,)

    @staticmethod
    def by(network: Network, detectors: Sequence[Detector]) -> Watched:
        lanes = np.zeros(len(network.lanes.ids), np.bool_)
        lanes[[d.lane for d in detectors]] = True
        edges = np.zeros(len(network.edges.ids), np.bool_)
        edges[network.lanes.edge[lanes]] = True
        return Watched(edges, lanes)


def observe(
    state: NetworkState, watched: Watched, shift_s: float, notices: tuple[NoticeReport, ...] = ()
) -> Observation:
    """Cut out of a fused state what the mirror corrects itself by: only fresh values of watched edges and lanes.

    `shift_s` turns an epoch into a simulated second.
    """
    lamps = tuple(
        LampOrder(view.state, view.since_s + shift_s)
        if view is not None and state.now_s - view.measured_at_s <= LAMPS_FRESH_S
        else None
        for view in state.lamps
    )
    return Observation(
        until_s=state.now_s + shift_s,
        lamps=lamps,
        edge_flow_vps=_fresh(state.edge_flow_vps, watched.edges, FLOW_EVIDENCE_FRESH_S),
        lane_vehicles=_fresh(state.lane_vehicles, watched.lanes, EVIDENCE_FRESH_S),
        lane_vehicles_sd=np.sqrt(np.maximum(0.0, state.lane_vehicles.variance)),
        lane_queue_veh=_fresh(state.lane_queue_veh, watched.lanes, EVIDENCE_FRESH_S),
        notices=notices,
    )


def reported(notice: ControlNotice, network: Network, shift_s: float) -> NoticeReport:
    """A notice in the words of the street's own, its times in simulated seconds."""
    first = int(network.edges.first_lane[notice.edge])
    return NoticeReport(
        measured_at=max(EARLIEST_S, notice.available_at_s + shift_s),
        id=notice.id,
        edge=network.edges.ids[notice.edge],
        lanes=tuple(lane - first for lane in notice.lanes),
        speed_limit_mps=None if math.isnan(notice.speed_limit_mps) else notice.speed_limit_mps,
        begin=max(EARLIEST_S, notice.begin_s + shift_s),
        end=max(EARLIEST_S, notice.end_s + shift_s),
    )


def _fresh(estimate: Estimate, watched: Bools, oldest_s: float) -> Floats:
    return np.where(watched & estimate.valid & (estimate.age_s <= oldest_s), estimate.value, np.nan)
