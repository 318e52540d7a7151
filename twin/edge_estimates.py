"""Flow, speed, density and lane loads of every edge from loops, lists, mirror and prior. See `EdgeEstimates`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from networks.city import Detector
from networks.graph import BICYCLE, PEDESTRIAN, VEHICLE_SPACE_M, Bools, Floats, Ints, Network
from networks.state import Estimate, History
from twin.flow_balance import balance_flows, edge_turns
from twin.fusion_kernels import Lanes
from twin.loop_record import WINDOW_S, LoopRecord

SPEED_MEMORY_S = 60.0
OWN_EVIDENCE_S = 120.0  # older evidence of an edge's own does not count as coverage
LOOP_MISS_FRAC = 0.01  # share of vehicles that a loop misses or counts twice
PRIOR_AGE_S = 3600.0
FED_AGE_S = 10.0  # evidence of what left the edges before is so old when it arrives, about
FED_SHARE = 0.7  # of an edge's inflows (each unobserved junction on the way counts FED_LOSS) must be counted
FED_LOSS = 0.85
GROWTH_PER_S = 0.01  # of a lane load's variance while nothing is heard, share of storage squared a second


class MirrorView(Protocol):
    """What is used of `twin.mirror_words.MirrorEstimate`."""

    @property
    def now_s(self) -> float: ...
    @property
    def edge_flow_vps(self) -> Floats: ...
    @property
    def edge_speed_mps(self) -> Floats: ...
    @property
    def edge_density_vpm(self) -> Floats: ...
    @property
    def lane_queue_veh(self) -> Floats: ...
    @property
    def lane_vehicles(self) -> Floats: ...


class Answer(NamedTuple):
    flow_vps: Estimate  # (E,)
    speed_mps: Estimate
    density_vpm: Estimate
    lane_queue: Estimate  # (L,)
    lane_vehicles: Estimate
    coverage: float


class EdgeEstimates:
    """Turns the vehicle lists and loop rates of each second into estimates of edges and lanes.

    Flow is what left the edge in the last `WINDOW_S` seconds: by stop-line loops where a lane has one, else by the
    lists. Speed is the space mean of the listed vehicles with an exponential memory of `SPEED_MEMORY_S`. An edge
    without loops whose every inflow comes from counted lanes (`fed`) is estimated from its lists; other edges only
    while position reports come from them.
    """

    def __init__(self, network: Network, detectors: Sequence[Detector], profile: History | None) -> None:
        lanes, edges = network.lanes, network.edges
        self._edge = lanes.edge
        self._edge_count = len(edges.ids)
        self._length_m = edges.length_m
        self._limit_mps = edges.speed_limit_mps
        self._motor = (lanes.allowed & ~(PEDESTRIAN | BICYCLE)) != 0
        self._storage = np.maximum(lanes.length_m / VEHICLE_SPACE_M, 1.0)
        self._profile = profile
        self._detector_lane = np.array([d.lane for d in detectors], dtype=np.int32)
        self._stop = np.array([d.role == "stop" for d in detectors], dtype=np.bool_)
        self._upstream = np.array([d.role == "upstream" for d in detectors], dtype=np.bool_)
        self._movement_from, self._movement_to = network.movements.from_lane, network.movements.to_lane
        self._left = np.zeros((len(lanes.ids), WINDOW_S))
        self._left_total = np.zeros(len(lanes.ids))  # over the window
        self._seconds = np.zeros(WINDOW_S, np.bool_)  # slots of the ring that were worked on
        self._speed_sum = np.zeros(self._edge_count)
        self._speed_weight = np.zeros(self._edge_count)

    def forget(self, seconds: int, second: int) -> None:
        """Nothing was heard for so many seconds up to `second`."""
        gone = np.arange(second - min(seconds, WINDOW_S) + 1, second + 1) % WINDOW_S
        self._left[:, gone] = 0.0
        self._left_total = self._left.sum(axis=1)
        self._seconds[gone] = False
        keep = np.exp(-seconds / SPEED_MEMORY_S)
        self._speed_sum *= keep
        self._speed_weight *= keep

    def step(self, second: int, left: Floats, sums: tuple[Floats, Floats, Floats]) -> None:
        """One second: vehicles that left each lane, and (vehicles, queue, sum of speeds) per lane."""
        slot = second % WINDOW_S
        self._left_total += left - self._left[:, slot]
        self._left[:, slot] = left
        self._seconds[slot] = True
        vehicles, _, moving = sums
        keep = np.exp(-1.0 / SPEED_MEMORY_S)
        self._speed_sum = keep * self._speed_sum + np.bincount(self._edge, moving, self._edge_count)
        self._speed_weight = keep * self._speed_weight + np.bincount(self._edge, vehicles, self._edge_count)

    def answer(
        self,
        now_s: float,
        loops: LoopRecord,
        lanes: Lanes,
        lane_seen_s: Floats,
        lane_sight_s: Floats,
        vehicles: Floats,
        queue: Floats,
        mirror: MirrorView | None,
    ) -> Answer:
        edge, count = self._edge, self._edge_count
        loop_heard_s = np.full(len(edge), -np.inf)
        trusted = ~loops.stuck & np.isfinite(loops.last_s)
        np.maximum.at(loop_heard_s, self._detector_lane[trusted], loops.last_s[trusted])
        edge_loop_s = _latest(loop_heard_s, edge, count)
        edge_seen_s = _latest(lane_seen_s, edge, count)
        own_s = np.maximum(edge_loop_s, edge_seen_s)
        own = now_s - own_s <= OWN_EVIDENCE_S
        fed = self._fed(lanes)
        age = np.where(fed & ~own, FED_AGE_S, np.maximum(now_s - own_s, 0.0))
        flow, flow_variance, counted, measured = self._flow(loops, now_s)
        flow, flow_variance, flow_known = self._balanced(
            flow, flow_variance, measured, fed & ~measured, own, lanes, loops, mirror, now_s
        )
        known = own | fed
        evidence_weight = self._speed_weight
        speed = np.where(
            evidence_weight > 0.5, self._speed_sum / np.maximum(evidence_weight, 0.5), 0.95 * self._limit_mps
        )
        speed_variance = (
            1.0 + np.where(own, 4.0, 12.0) * 10.0 / (evidence_weight + 2.0) + 0.05 * np.minimum(age, 3600.0)
        )
        edge_vehicles = np.bincount(edge, vehicles, count)
        density = edge_vehicles / self._length_m
        spread = edge_vehicles * np.where(counted, 0.15, 0.5) + 0.3 + 0.02 * np.minimum(age, 3600.0)
        flow_variance = flow_variance + 1e-6 * np.minimum(age, 3600.0)
        # lists reach further than evidence: a flow that only the lists tell needs the edge to be fed or seen
        lane_age = np.maximum(now_s - np.maximum(loop_heard_s, lane_seen_s), 0.0)
        lane_age = np.where(np.isfinite(lane_age), lane_age, age[edge])
        # reports of equipped vehicles alone leave out everybody else: not a lane's load while the mirror has one
        lane_known = (counted | fed)[edge] | (now_s - lane_sight_s <= OWN_EVIDENCE_S)
        lane_known &= self._motor
        if mirror is None:
            lane_variance_extra = np.where(lane_known, 0.0, 4.0 + 4.0 * vehicles)
            lane_age = np.where(lane_known, lane_age, lane_age + PRIOR_AGE_S)
            lane_known = lane_known | (known[edge] & self._motor)
        else:
            lane_variance_extra = np.zeros(len(edge))
        grown = np.minimum(GROWTH_PER_S * np.maximum(lane_age - 5.0, 0.0), 1.0) * self._storage**2 / 4.0
        lane_variance = (
            np.where(counted[edge], 0.5 + 0.1 * vehicles, 1.0 + 0.5 * vehicles) + grown + lane_variance_extra
        )
        estimates = [
            Estimate(flow, flow_variance, np.where(measured, age, np.maximum(age, FED_AGE_S)), flow_known),
            Estimate(speed, speed_variance, age, known),
            Estimate(density, spread / self._length_m**2, age, known),
            Estimate(queue, lane_variance, lane_age, lane_known),
            Estimate(vehicles, lane_variance.copy(), lane_age.copy(), lane_known.copy()),
        ]
        if mirror is not None:
            estimates = self._with_mirror(estimates, mirror, now_s)
        flow_e, speed_e = estimates[0], estimates[1]
        if self._profile is not None:
            flow_e, speed_e = self._with_profile(flow_e, speed_e, self._profile, now_s)
        return Answer(
            _clean(flow_e),
            _clean(speed_e),
            _clean(estimates[2]),
            _clean(estimates[3]),
            _clean(estimates[4]),
            float(np.mean(own)) if count else 0.0,
        )

    def _fed(self, lanes: Lanes) -> Bools:
        """(E,) what drives into the edge has, for the most part, been counted one or few junctions before."""
        into = self._edge[self._movement_to]
        feeders = np.bincount(into, minlength=self._edge_count)
        live = lanes.stop_live[self._movement_from]
        quality = np.zeros(self._edge_count)
        for _ in range(4):
            each = np.where(live, 1.0, FED_LOSS * quality[self._edge[self._movement_from]])
            quality = np.bincount(into, each, self._edge_count) / np.maximum(feeders, 1)
        fed: Bools = quality >= FED_SHARE
        return fed

    def _balanced(
        self,
        flow: Floats,
        variance: Floats,
        measured: Bools,
        fed: Bools,
        own: Bools,
        lanes: Lanes,
        loops: LoopRecord,
        mirror: MirrorView | None,
        now_s: float,
    ) -> tuple[Floats, Floats, Bools]:
        """Flows of edges without loops brought in line with the loops around them; with variance and validity."""
        turns = edge_turns(self._movement_from, self._movement_to, self._edge, lanes.share, self._lane_rate())
        start, told = flow.copy(), fed | measured
        if mirror is not None:
            guess = np.asarray(mirror.edge_flow_vps, dtype=np.float64)
        elif self._profile is not None and self._profile.grid.count:
            step = _step_of(self._profile, now_s)
            guess = np.where(self._profile.valid[step], self._profile.flow_vps[step], np.nan)
        else:
            guess = np.full(len(flow), np.nan)
        take = ~told & np.isfinite(guess) & (guess >= 0)
        start[take] = guess[take]
        balanced = balance_flows(start, measured, np.where(measured, self._arriving(flow, loops), np.nan), turns)
        into_measured = np.bincount(turns.origin, turns.share * measured[turns.target], len(flow)) > 0.5
        known = told | own | into_measured
        spread = np.where(fed, (0.2 * balanced) ** 2, (0.4 * balanced) ** 2) + 1e-4
        return np.where(measured, flow, balanced), np.where(measured, variance, spread), known

    def _arriving(self, flow: Floats, loops: LoopRecord) -> Floats:
        """What enters each edge: by its upstream loops where every motor lane has one, else what leaves it."""
        rate, heard = loops.rates()
        use = self._upstream & (heard >= 30) & ~loops.stuck
        lane_rate = np.full(len(self._edge), np.nan)
        lane_rate[self._detector_lane[use]] = rate[use]
        total = np.bincount(self._edge, np.where(self._motor, lane_rate, 0.0), self._edge_count)
        return np.where(np.isfinite(total) & (total > 0), total, flow)

    def _lane_rate(self) -> Floats:
        worked = max(int(self._seconds.sum()), 1)
        rate: Floats = np.maximum(self._left_total, 0.0) / worked
        return rate

    def _flow(self, loops: LoopRecord, now_s: float) -> tuple[Floats, Floats, Bools, Bools]:
        """Flow and its variance (E,); whether every motor lane has a live stop-line loop; whether loops tell it."""
        worked = max(int(self._seconds.sum()), 1)
        lane_rate = self._lane_rate()
        rate, heard = loops.rates()
        use = self._stop & (heard >= min(30, worked)) & ~loops.stuck & (now_s - loops.last_s <= OWN_EVIDENCE_S)
        by_loop = np.zeros(len(self._edge), np.bool_)
        lane_rate[self._detector_lane[use]] = rate[use]
        by_loop[self._detector_lane[use]] = True
        motor = self._motor
        edge_of = self._edge
        flow = np.bincount(edge_of, np.where(motor, lane_rate, 0.0), self._edge_count).astype(np.float64)
        counted: Bools = np.bincount(edge_of, (motor & ~by_loop), self._edge_count) == 0
        counted &= np.bincount(edge_of, by_loop, self._edge_count) > 0
        poisson = np.maximum(flow, 1.0 / worked) / worked
        variance = poisson + (LOOP_MISS_FRAC * flow) ** 2 + np.where(counted, 0.0, (0.3 * flow) ** 2 + 1e-4)
        other = ~self._stop & (heard >= min(30, worked)) & ~loops.stuck & (now_s - loops.last_s <= OWN_EVIDENCE_S)
        measured = counted | self._blend_other_loops(flow, variance, counted, rate, other)
        return flow, variance, counted, measured

    def _blend_other_loops(self, flow: Floats, variance: Floats, counted: Bools, rate: Floats, use: Bools) -> Bools:
        """Edges without stop-line loops take the sum of loops elsewhere, when every motor lane has one."""
        lane_rate = np.full(len(self._edge), np.nan)
        lane_rate[self._detector_lane[use]] = rate[use]
        total = np.bincount(self._edge, np.where(self._motor, lane_rate, 0.0), self._edge_count)
        take = ~counted & np.isfinite(total) & (np.bincount(self._edge, self._motor, self._edge_count) > 0)
        flow[take] = total[take]
        worked = max(int(self._seconds.sum()), 1)
        variance[take] = np.maximum(total[take], 1.0 / worked) / worked + (0.05 * total[take]) ** 2
        return take

    def _with_mirror(self, estimates: list[Estimate], mirror: MirrorView, now_s: float) -> list[Estimate]:
        old_s = max(now_s - float(mirror.now_s), 0.0)
        fields = (  # value, variance at 0, variance per unit
            (mirror.edge_flow_vps, 1e-4, 0.05),
            (mirror.edge_speed_mps, 9.0, 0.0),
            (mirror.edge_density_vpm, 1e-4, 0.1),
            (mirror.lane_queue_veh, 2.0, 1.0),
            (mirror.lane_vehicles, 2.0, 1.0),
        )
        merged = []
        for own, (raw, least, slope) in zip(estimates, fields, strict=True):
            value = np.asarray(raw, dtype=np.float64)
            usable = np.isfinite(value) & (value >= 0)
            value = np.where(usable, value, 0.0)
            take = ~own.valid & usable
            merged.append(
                Estimate(
                    np.where(take, value, own.value),
                    np.where(take, (least + slope * value) * (1.0 + old_s / 30.0), own.variance),
                    np.where(take, old_s, own.age_s),
                    own.valid | take,
                )
            )
        return merged

    def _with_profile(
        self, flow: Estimate, speed: Estimate, profile: History, now_s: float
    ) -> tuple[Estimate, Estimate]:
        grid = profile.grid
        if grid.count == 0:
            return flow, speed
        step = _step_of(profile, now_s)
        told = []
        for own, rows, noise in ((flow, profile.flow_vps, 0.3), (speed, profile.speed_mps, 0.3)):
            value = np.asarray(rows[step], dtype=np.float64)
            take = ~own.valid & profile.valid[step] & np.isfinite(value) & (value >= 0)
            value = np.where(take, value, 0.0)
            told.append(
                Estimate(
                    np.where(take, value, own.value),
                    np.where(take, (noise * value) ** 2 + 1e-3, own.variance),
                    np.where(take, PRIOR_AGE_S, own.age_s),
                    own.valid | take,
                )
            )
        return told[0], told[1]


def _step_of(profile: History, now_s: float) -> int:
    grid = profile.grid
    return int(np.clip((now_s - grid.start_s) // grid.step_s, 0, grid.count - 1))


def _latest(lane_s: Floats, edge: Ints, count: int) -> Floats:
    latest = np.full(count, -np.inf)
    np.maximum.at(latest, edge, lane_s)
    return latest


def _clean(estimate: Estimate) -> Estimate:
    """Non-negative and finite where valid; 0 with infinite variance where not."""
    valid = estimate.valid & np.isfinite(estimate.value)
    return Estimate(
        np.where(valid, np.maximum(estimate.value, 0.0), 0.0),
        np.where(valid, np.maximum(estimate.variance, 0.0), np.inf),
        np.where(valid, np.maximum(estimate.age_s, 0.0), np.inf),
        valid,
    )
