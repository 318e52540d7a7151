"""Flow, speed, density and lane loads of every edge from loops, lists, mirror and prior. See `EdgeEstimates`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from networks.city import Detector
from networks.graph import VEHICLE_SPACE_M, Bools, Floats, Ints, Network
from networks.pieces import StreetPieces
from networks.state import DAY_S, Estimate, History
from twin.edge_speeds import FREE_FRAC, EdgeSpeeds
from twin.fusion_kernels import Lanes
from twin.loop_record import WINDOW_S, LoopRecord
from twin.prior_view import PriorView
from twin.turn_flows import LEAST_VPS, Told, TurnFlows, count_variance

HONESTY_EVERY_S, HONESTY_HALF_LIFE_S = 60.0, 900.0
LEFT_OUT_OF = 6  # of so many measured edges one is found as if it had no loops
OWN_EVIDENCE_S = 120.0  # older evidence of an edge's own does not count as coverage
PRIOR_AGE_S = 3600.0
FED_AGE_S = 10.0  # evidence of what left the edges before is so old when it arrives, about
FED_SHARE = 0.7  # of an edge's inflows (each unobserved junction on the way counts FED_LOSS) must be counted
FED_LOSS = 0.85
FAR_FRAC = 0.1  # relative error that all flows of a street share where none is counted before or after
PROFILE_FRAC, MIRROR_FRAC, LISTED_FRAC = 0.3, 0.2, 0.5  # relative errors of their flows
FIT_EVERY_S = 5.0
LEAST_HEARD_S = 30
BEYOND = 0.2, 0.05  # variance of a lane's load and queue by vehicles short of its upstream loop, and by their square
UNLISTED_FRAC = 0.5  # relative error of vehicles that no list holds
STANDING_FRAC = 0.12  # of a queue: who stands and who already drives
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
    def edge_samples(self) -> Floats: ...
    @property
    def movement_vps(self) -> Floats: ...
    @property
    def edge_density_vpm(self) -> Floats: ...
    @property
    def lane_queue_veh(self) -> Floats: ...
    @property
    def lane_vehicles(self) -> Floats: ...


class Listed(NamedTuple):
    """What the vehicle lists say of each lane (L,), in expected vehicles."""

    vehicles: Floats
    queue: Floats  # of those the ones slower than 2 m/s
    coming: Floats  # not yet counted upstream


class Seen(NamedTuple):
    """When each lane (L,) was last seen by others than loops, epoch seconds."""

    report_s: Floats  # by a vehicle on it, or by a unit that showed one
    most_s: Floats  # most of it by a roadside unit
    line_s: Floats  # its end by a roadside unit


class Answer(NamedTuple):
    flow_vps: Estimate  # (E,)
    speed_mps: Estimate
    density_vpm: Estimate
    lane_queue: Estimate  # (L,)
    lane_vehicles: Estimate
    coverage: float


class EdgeEstimates:
    """Turns the vehicle lists and loop rates of each second into estimates of edges and lanes.

    Flow is what left the edge in the last `WINDOW_S` seconds: by stop-line loops where every lane has one, else by
    loops elsewhere on the edge, else by `TurnFlows` from all loops around, with the mirror's flow, the prior's or the
    lists' as a guess. Speed is that of `EdgeSpeeds`. Lane loads come from the lists where loops or roadside units see
    the lane, or where every inflow comes from counted lanes (`fed`), and from the mirror elsewhere.
    """

    def __init__(
        self,
        network: Network,
        detectors: Sequence[Detector],
        prior: PriorView | None,
        ends_frac: Floats,
        pieces: StreetPieces,
    ) -> None:
        lanes, edges = network.lanes, network.edges
        self._edge, self._line = lanes.edge, pieces.line
        self._edge_count = len(edges.ids)
        self._length_m = edges.length_m
        self._speeds = EdgeSpeeds(network)
        self._motor = lanes.motor
        self._storage = np.maximum(lanes.length_m / VEHICLE_SPACE_M, 1.0)
        self._prior, self._ends_frac = prior, ends_frac
        self._flow_honesty = Honesty()
        self._checked_s, self._checks = -np.inf, 0
        self._turns, self._fitted_s = TurnFlows(network, detectors), -np.inf
        self._fit = np.zeros(self._edge_count), np.full(self._edge_count, np.inf)
        self._detector_lane = np.array([d.lane for d in detectors], dtype=np.int32)
        self._stop = np.array([d.role == "stop" for d in detectors], dtype=np.bool_)
        self._upstream = np.array([d.role == "upstream" for d in detectors], dtype=np.bool_)
        self._reach = _ways_to_loops(network, detectors, pieces)
        self._came, self._came_s = np.zeros(len(lanes.ids)), -np.inf  # of each lane, mean of those listed there
        self._movement_from = network.movements.from_lane
        self._out_of, self._into = lanes.edge[self._movement_from], lanes.edge[network.movements.to_lane]
        self._usual = np.zeros(len(lanes.ids))  # vehicles off each lane by the prior
        if prior is not None:
            self._usual += np.bincount(self._movement_from, prior.movement_vehicles, len(lanes.ids))
        self._left = np.zeros((len(lanes.ids), WINDOW_S))
        self._left_total = np.zeros(len(lanes.ids))  # over the window
        self._held = np.full((self._edge_count, WINDOW_S), np.nan)  # vehicles listed
        self._newest = 0
        self._seconds = np.zeros(WINDOW_S, np.bool_)  # slots of the ring that were worked on

    def forget(self, seconds: int, second: int) -> None:
        """Nothing was heard for so many seconds up to `second`."""
        gone = np.arange(second - min(seconds, WINDOW_S) + 1, second + 1) % WINDOW_S
        self._left[:, gone] = 0.0
        self._held[:, gone] = np.nan
        self._left_total = self._left.sum(axis=1)
        self._seconds[gone] = False
        self._speeds.fade(seconds)

    def step(self, second: int, left: Floats, sums: tuple[Floats, Floats, Floats], seen: tuple[Ints, Floats]) -> None:
        """One second: vehicles that left each lane, and (vehicles, queue, sum of speeds) per lane."""
        slot = second % WINDOW_S
        self._left_total += left - self._left[:, slot]
        self._left[:, slot] = left
        self._seconds[slot] = True
        self._newest = slot
        self._held[:, slot] = np.bincount(self._edge, np.where(self._motor, sums[0], 0.0), self._edge_count)
        self._speeds.step(sums[0], sums[2], seen)

    def note_travel(self, edge: Ints, seconds: Floats, metres: Floats) -> None:
        """Vehicles (N,) took so long for so many metres of their edges, within the last minutes."""
        self._speeds.note_travel(edge, seconds, metres)

    def answer(
        self,
        now_s: float,
        loops: LoopRecord,
        lanes: Lanes,
        shares: tuple[Floats, Floats],
        seen: Seen,
        lists: Listed,
        mirror: MirrorView | None,
    ) -> Answer:
        """`shares` (M,): turning shares and their variance."""
        edge, count = self._edge, self._edge_count
        loop_heard_s = np.full(len(edge), -np.inf)
        trusted = ~loops.stuck & np.isfinite(loops.last_s)
        np.maximum.at(loop_heard_s, self._detector_lane[trusted], loops.last_s[trusted])
        edge_loop_s = _latest(loop_heard_s, edge, count)
        edge_seen_s = _latest(seen.report_s, edge, count)
        own_s = np.maximum(edge_loop_s, edge_seen_s)
        own = now_s - own_s <= OWN_EVIDENCE_S
        counted_before = self._counted_before(lanes)
        fed = counted_before >= FED_SHARE
        age = np.where(fed & ~own, FED_AGE_S, np.maximum(now_s - own_s, 0.0))
        flow, flow_variance, counted, measured = self._flow(loops, now_s)
        flow, flow_variance, flow_known = self._fitted(
            flow, flow_variance, measured, fed & ~measured, own, shares, loops, mirror, now_s
        )
        far = np.where(measured, 0.0, 1.0 - np.maximum(counted_before, self._counted_after(measured)))
        flow_variance = flow_variance + (FAR_FRAC * far * flow) ** 2
        known = own | fed
        speed, speed_variance = self._speed(counted, mirror, now_s)
        queue, coming = lists.queue, lists.coming
        unlisted = self._unlisted(loops, coming, now_s)
        vehicles = lists.vehicles + unlisted
        edge_vehicles = np.bincount(edge, vehicles, count)
        density = edge_vehicles / self._length_m
        spread = edge_vehicles * np.where(counted, 0.15, 0.5) + 0.3 + 0.02 * np.minimum(age, 3600.0)
        # lists reach further than evidence: a flow that only the lists tell needs the edge to be fed or seen
        loop_heard_s = np.maximum(loop_heard_s, loop_heard_s[self._line])
        lane_age = np.maximum(now_s - np.maximum(loop_heard_s, seen.report_s), 0.0)
        lane_age = np.where(np.isfinite(lane_age), lane_age, age[edge])
        # reports of equipped vehicles alone leave out everybody else: not a lane's load while the mirror has one
        listed_to_line = counted[edge[self._line]]  # lists go on over the pieces of a street
        lane_known = listed_to_line | fed[edge] | (now_s - seen.most_s <= OWN_EVIDENCE_S)
        lane_known &= self._motor
        if mirror is None:
            lane_variance_extra = np.where(lane_known, 0.0, 4.0 + 4.0 * vehicles)
            lane_age = np.where(lane_known, lane_age, lane_age + PRIOR_AGE_S)
            lane_known = lane_known | (known[edge] & self._motor)
        else:
            lane_variance_extra = np.zeros(len(edge))
        seen_only = ~lane_known & self._motor & (now_s - seen.line_s <= OWN_EVIDENCE_S)
        queue_known, queue_age = lane_known | seen_only, np.where(seen_only, now_s - seen.line_s, lane_age)
        grown = np.minimum(GROWTH_PER_S * np.maximum(lane_age - 5.0, 0.0), 1.0) * self._storage**2 / 4.0
        listed = np.where(listed_to_line, 0.1, 0.5) * vehicles
        beyond = np.where(listed_to_line, BEYOND[0] * coming + BEYOND[1] * coming**2, 0.0)
        older = grown + lane_variance_extra
        queue_variance = np.where(listed_to_line, 0.1, 1.0) + listed + beyond + older + (STANDING_FRAC * queue) ** 2
        load = listed + beyond + unlisted + (UNLISTED_FRAC * unlisted) ** 2
        # a counted lane is never known worse than a Poisson count; control takes it for followed by that
        lane_variance = np.where(listed_to_line, np.minimum(0.5 + load, vehicles + 1.0), 1.0 + load) + older
        told_age, told = self._told_age(mirror, now_s)
        flow_age = np.where(measured, age, np.maximum(age, FED_AGE_S))
        estimates = [
            Estimate(density, spread / self._length_m**2, age, known),
            Estimate(queue, queue_variance, queue_age, queue_known),
            Estimate(vehicles, lane_variance, lane_age, lane_known.copy()),
        ]
        if mirror is not None:
            estimates = self._with_mirror(estimates, mirror, now_s)
            np.fmax(estimates[2].value, np.where(estimates[1].valid, estimates[1].value, 0.0), out=estimates[2].value)
        flow_e = Estimate(flow, flow_variance, np.where(flow_known, flow_age, told_age), flow_known | told)
        speed_e = Estimate(speed, speed_variance, np.where(known, age, told_age), known | told)
        return Answer(
            _clean(flow_e),
            _clean(speed_e),
            _clean(estimates[0]),
            _clean(estimates[1]),
            _clean(estimates[2]),
            float(np.mean(own)) if count else 0.0,
        )

    def _unlisted(self, loops: LoopRecord, coming: Floats, now_s: float) -> Floats:
        """(L,) vehicles that the lists lack before upstream loops, over the last minutes.

        Nobody tells of trips that begin on the edge, or of who comes from roads without loops, until the upstream
        loop counts them: on average as many as pass it in the time that it takes to get there (Little 1961).
        """
        keep = np.exp(-np.clip(now_s - self._came_s, 0.0, WINDOW_S) / WINDOW_S)
        self._came, self._came_s = keep * self._came + (1.0 - keep) * coming, now_s
        rate, heard = loops.rates()
        use = self._upstream & (heard >= LEAST_HEARD_S) & ~loops.stuck
        loop, lane, seconds = self._reach
        on_way = np.bincount(lane, np.where(use, rate, 0.0)[loop] * seconds, len(self._edge))
        lacking: Floats = np.maximum(on_way - self._came, 0.0)
        return lacking

    def _speed(self, counted: Bools, mirror: MirrorView | None, now_s: float) -> tuple[Floats, Floats]:
        """Space-mean speed (E,) and its variance."""
        usual, told = np.full(self._edge_count, np.nan), None
        if self._prior is not None and self._prior.profile.grid.count:
            profile, step = self._prior.profile, _step_of(self._prior.profile, now_s)
            usual = np.where(profile.valid[step], profile.speed_mps[step], np.nan)
        if mirror is not None:
            told = np.nan_to_num(mirror.edge_speed_mps), np.nan_to_num(mirror.edge_samples), _older(mirror, now_s)
        return self._speeds.answer(counted, told, usual)

    def _told_age(self, mirror: MirrorView | None, now_s: float) -> tuple[Floats, Bools]:
        """How old what mirror and prior tell of each edge is, and whether they tell anything."""
        age, told = np.full(self._edge_count, np.inf), np.zeros(self._edge_count, np.bool_)
        if self._prior is not None and self._prior.profile.grid.count:
            told = self._prior.profile.valid[_step_of(self._prior.profile, now_s)].copy()
            age[told] = PRIOR_AGE_S
        if mirror is not None:
            use = np.isfinite(mirror.edge_flow_vps)
            age[use], told[use] = max(now_s - float(mirror.now_s), 0.0), True
        return age, told

    def _counted_before(self, lanes: Lanes) -> Floats:
        """(E,) share of what drives into the edge that has been counted one or few junctions before."""
        return self._counted_beyond(self._into, self._out_of, lanes.stop_live[self._movement_from])

    def _counted_after(self, measured: Bools) -> Floats:
        """(E,) share of what leaves the edge that is counted one or few junctions later."""
        return self._counted_beyond(self._out_of, self._into, measured[self._into])

    def _counted_beyond(self, edge: Ints, beyond: Ints, counted: Bools) -> Floats:
        """Each movement (M,) ties an edge to one beyond it; its vehicles are counted there, or perhaps further on."""
        ways = np.maximum(np.bincount(edge, minlength=self._edge_count), 1)
        quality: Floats = np.zeros(self._edge_count)
        for _ in range(4):
            quality = np.bincount(edge, np.where(counted, 1.0, FED_LOSS * quality[beyond]), self._edge_count) / ways
        return quality

    def _fitted(
        self,
        flow: Floats,
        variance: Floats,
        measured: Bools,
        fed: Bools,
        own: Bools,
        shares: tuple[Floats, Floats],
        loops: LoopRecord,
        mirror: MirrorView | None,
        now_s: float,
    ) -> tuple[Floats, Floats, Bools]:
        """Flows of edges without loops from all loops, guesses and conservation; with variance and validity."""
        share, edge = shares[0], self._edge
        if not 0.0 <= now_s - self._fitted_s < FIT_EVERY_S:
            guess, frac, starts_vps = self._guess(flow, fed | measured, mirror, now_s)
            entered, complete = self._arriving(loops)
            stop_vps = np.full(len(edge), np.nan)
            rate, heard = loops.rates()
            use = self._stop & (heard >= LEAST_HEARD_S) & ~loops.stuck & (now_s - loops.last_s <= OWN_EVIDENCE_S)
            stop_vps[self._detector_lane[use]] = rate[use]
            unheard = np.bincount(edge, self._motor & ~np.isfinite(stop_vps), self._edge_count) > 0
            usual = (unheard & (np.bincount(edge, self._usual, self._edge_count) > 0))[edge]
            passing = np.where(np.isfinite(stop_vps), stop_vps, self._lane_rate())
            part = np.where(self._motor, np.where(usual, self._usual, passing) + 1e-3, 0.0)
            whole = np.bincount(edge, part, self._edge_count)[edge]
            told = Told(
                window_s=WINDOW_S,
                heard_s=float(max(self._seconds.sum(), LEAST_HEARD_S)),
                stop_vps=stop_vps,
                entered_vps=np.where(complete, entered, np.nan),
                passed_vps=np.where(measured, flow, np.nan),
                guess_vps=guess,
                guess_frac=frac,
                lane_frac=part / np.maximum(whole, 1e-12),
                share=share,
                share_variance=shares[1],
                ends_frac=self._ends_frac,
                starts_vps=starts_vps,
                turned_vps=mirror.movement_vps if mirror is not None else np.full(len(share), np.nan),
                kept_vps=np.where(fed | measured, self._kept_vps(), np.nan),
            )
            self._fit, self._fitted_s = self._turns.solve(told), now_s
            if self._prior is not None or mirror is not None:
                self._check_fit(told, flow, measured, now_s)
        fitted, spread = self._fit[0], self._fit[1] * self._flow_honesty.scale
        into_measured = np.bincount(self._out_of, share * measured[self._into], len(flow))
        known = fed | measured | own | (into_measured > 0.5)
        return np.where(measured, flow, fitted), np.where(measured, variance, spread), known

    def _check_fit(self, told: Told, flow: Floats, measured: Bools, now_s: float) -> None:
        """Each minute, find some measured edges as if they had no loops: how far off says how honest variances are.

        Only once the window is full, for before that its own counts say too little.
        """
        if now_s - self._checked_s < HONESTY_EVERY_S or told.heard_s < told.window_s:
            return
        self._checked_s, self._checks = now_s, self._checks + 1
        left_out = measured & (np.arange(len(flow)) % LEFT_OUT_OF == self._checks % LEFT_OUT_OF)
        if not left_out.any():
            return
        found, variance = self._turns.solve(
            told._replace(
                stop_vps=np.where(left_out[self._edge], np.nan, told.stop_vps),
                entered_vps=np.where(left_out, np.nan, told.entered_vps),
                passed_vps=np.where(left_out, np.nan, told.passed_vps),
            )
        )
        self._flow_honesty.learn(np.minimum((found - flow)[left_out] ** 2 / variance[left_out], 9.0), now_s)

    def _guess(
        self, flow: Floats, told: Bools, mirror: MirrorView | None, now_s: float
    ) -> tuple[Floats, Floats, Floats]:
        """Of each edge's flow without its own loops: value, relative error, trips that begin there.

        By the mirror, else the prior, else the lists, else as much as elsewhere.
        """
        guess, frac, starts_vps = np.full(len(flow), np.nan), np.ones(len(flow)), np.zeros(len(flow))
        if self._prior is not None and self._prior.profile.grid.count:
            profile = self._prior.profile
            step = _step_of(profile, now_s)
            guess = np.where(profile.valid[step], profile.flow_vps[step], np.nan)
            frac = np.where(profile.valid[step], PROFILE_FRAC, frac)
            starts_vps = self._prior.departed_vps[step]
        if mirror is not None:
            value = np.asarray(mirror.edge_flow_vps, dtype=np.float64)
            use = np.isfinite(value) & (value >= 0)
            busier = np.where(use & (guess > 0), value / np.maximum(guess, 1e-9), 1.0)
            starts_vps = starts_vps * np.clip(busier, 0.5, 2.0)
            # a mirror that lets nobody through where the prior expects many has locked, or a road is closed
            at_most = np.fmax(value, guess) / np.maximum(value, LEAST_VPS)
            guess = np.where(use, value, guess)
            frac = np.where(use, MIRROR_FRAC * _older(mirror, now_s) * at_most, frac)
        listed = ~np.isfinite(guess) & told
        guess, frac = np.where(listed, flow, guess), np.where(listed, LISTED_FRAC, frac)
        usual = float(np.median(flow[told])) if told.any() else 0.0
        return np.where(np.isfinite(guess), guess, usual), frac, starts_vps

    def _arriving(self, loops: LoopRecord) -> tuple[Floats, Bools]:
        """What enters each edge by its upstream loops, and where every motor lane has one."""
        rate, heard = loops.rates()
        use = self._upstream & (heard >= LEAST_HEARD_S) & ~loops.stuck
        lane_rate = np.full(len(self._edge), np.nan)
        lane_rate[self._detector_lane[use]] = rate[use]
        total = np.bincount(self._edge, np.where(self._motor, lane_rate, 0.0), self._edge_count)
        complete: Bools = np.isfinite(total) & (np.bincount(self._edge, self._motor, self._edge_count) > 0)
        return total.astype(np.float64), complete

    def _kept_vps(self) -> Floats:
        """(E,) by what the lists have grown within the window; NaN until it is full."""
        kept: Floats = self._held[:, self._newest] - self._held[:, (self._newest + 1) % WINDOW_S]
        return kept / WINDOW_S

    def _lane_rate(self) -> Floats:
        worked = max(int(self._seconds.sum()), 1)
        rate: Floats = np.maximum(self._left_total, 0.0) / worked
        return rate

    def _flow(self, loops: LoopRecord, now_s: float) -> tuple[Floats, Floats, Bools, Bools]:
        """Flow and its variance (E,); whether every motor lane has a live stop-line loop; whether loops tell it."""
        worked = max(int(self._seconds.sum()), 1)
        lane_rate = self._lane_rate()
        rate, heard = loops.rates()
        heard_of = (heard >= min(LEAST_HEARD_S, worked)) & ~loops.stuck & (now_s - loops.last_s <= OWN_EVIDENCE_S)
        use, other = self._stop & heard_of, ~self._stop & heard_of
        by_loop = np.zeros(len(self._edge), np.bool_)
        lane_rate[self._detector_lane[use]] = rate[use]
        by_loop[self._detector_lane[use]] = True
        motor = self._motor
        edge_of = self._edge
        flow = np.bincount(edge_of, np.where(motor, lane_rate, 0.0), self._edge_count).astype(np.float64)
        counted: Bools = np.bincount(edge_of, (motor & ~by_loop), self._edge_count) == 0
        counted &= np.bincount(edge_of, by_loop, self._edge_count) > 0
        variance = count_variance(flow, worked, WINDOW_S) + np.where(
            counted, 0.0, flow / WINDOW_S + (0.3 * flow) ** 2 + 1e-4
        )
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
        fields = (  # value, variance at 0, variance per unit and per unit squared
            (mirror.edge_density_vpm, 1e-4, 0.1, 0.0),
            (mirror.lane_queue_veh, 0.5, 0.8, 0.1),
            (mirror.lane_vehicles, 2.0, 1.0, 0.0),  # control takes less for a lane that sensors follow
        )
        merged = []
        for own, (raw, least, slope, square) in zip(estimates, fields, strict=True):
            value = np.asarray(raw, dtype=np.float64)
            usable = np.isfinite(value) & (value >= 0)
            value = np.where(usable, value, 0.0)
            take = ~own.valid & usable
            merged.append(
                Estimate(
                    np.where(take, value, own.value),
                    np.where(take, (least + slope * value + square * value**2) * (1.0 + old_s / 30.0), own.variance),
                    np.where(take, old_s, own.age_s),
                    own.valid | take,
                )
            )
        return merged


def _ways_to_loops(
    network: Network, detectors: Sequence[Detector], pieces: StreetPieces
) -> tuple[Ints, Ints, Floats]:
    """Loop, lane and seconds it takes freely, for every lane that leads to an upstream loop and the one it is on."""
    rows: list[tuple[int, int, float]] = []
    for i, detector in enumerate(detectors):
        if detector.role != "upstream":
            continue
        lane, metres = detector.lane, detector.position_m
        while lane >= 0:
            speed_mps = max(FREE_FRAC * float(network.lanes.speed_limit_mps[lane]), 1.0)
            rows.append((i, lane, metres / speed_mps))
            lane = int(pieces.before[lane])
            metres = float(network.lanes.length_m[lane])
    table = np.array(rows).reshape(-1, 3)
    return table[:, 0].astype(np.int32), table[:, 1].astype(np.int32), table[:, 2]


def _older(mirror: MirrorView, now_s: float) -> float:
    """By what its age raises the errors of what a mirror tells."""
    return 1.0 + max(now_s - float(mirror.now_s), 0.0) / WINDOW_S


class Honesty:
    """By what stated variances have to be multiplied, from squared innovations over them: 1 on average if honest."""

    def __init__(self) -> None:
        self._sum = self._weight = 50.0  # as if so many had been honest
        self._since_s = -math.inf

    def learn(self, squares: Floats, now_s: float) -> None:
        """Innovations of one moment; moments less than `HONESTY_EVERY_S` apart tell the same."""
        if now_s - self._since_s < HONESTY_EVERY_S:
            return
        keep = 0.5 ** (HONESTY_EVERY_S / HONESTY_HALF_LIFE_S)
        self._sum, self._weight = keep * self._sum + float(squares.sum()), keep * self._weight + len(squares)
        self._since_s = now_s

    @property
    def scale(self) -> float:
        return min(max(self._sum / self._weight, 0.25), 4.0)


def _step_of(profile: History, now_s: float) -> int:
    """The step of this time of day; after the last one the last one holds, until the first begins again."""
    grid = profile.grid
    return int(min((now_s - grid.start_s) % DAY_S // grid.step_s, grid.count - 1))


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
