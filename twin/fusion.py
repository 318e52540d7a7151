"""Feeds -> one state of the whole network, with variance and age. See `Fusion`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from networks.batches import Batches, CountBatch, ProbeBatch, SignalStateBatch, TrackBatch
from networks.city import Detector
from networks.graph import Bools, Floats, Ints, Network
from networks.pieces import join_pieces
from networks.route_book import RouteBook
from networks.state import Estimate, LampView, NetworkState, VehicleTable
from twin import fusion_kernels as kernels
from twin.edge_estimates import PRIOR_AGE_S, EdgeEstimates, MirrorView, PriorView
from twin.fusion_kernels import CRAWL_MPS, Pool
from twin.lane_vehicles import at_lines, make_lanes, make_pool, make_streets, street_loops
from twin.loop_record import WINDOW_S, LoopRecord
from twin.placing import LaneFinder
from twin.roadside_sight import RoadsideSight
from twin.sensor_health import LoopHealth
from twin.sparse_probes import FORGET_AFTER_S, SparseProbes
from twin.street_places import StreetPlaces

MAX_LAG_S = 2  # the lists wait so long for the loops of a second, then go on
GAP_S = 30.0  # a longer pause is not stepped through: the lists fade instead
FADE_HALF_LIFE_S = 45.0  # of the belief in a vehicle that nothing has confirmed
PRIOR_VEHICLES = 15.0  # weight of the prior turning shares, in vehicles
HITS_HALF_LIFE_S = 1800.0
RELEARN_S = 10
SETTLE_SPAN_S = 400.0
DRIVING_KINDS = (0, 1, 2, 5, 6)  # VEHICLE_KINDS that use motor lanes
TENTATIVE = 4093
UNIT_LIVE_S = 3.0
SILENT_UNIT_S = 60.0  # nobody on the road, on foot or imagined for so long; what sees nobody sends no rows
UNSURE_GREEN = 0.3  # of a green under which whoever stands first may have to give way, to walkers too, all the time
SEEN_FRESH_S = 1.5  # a report so old still tells where a vehicle is
LAMPS_LIVE_S = 5.0
QUEUE_SIGHT_FRAC = 0.2  # of a lane in a unit's sight, from the stop line on: its queue is told by the lists
PARTING_VEHICLES = 20.0  # that the prior shares weigh of who goes where when a lane parts before the stop line
HELD_BELIEF = 0.5  # a second, in a vehicle that a loop or a roadside unit denies

_OPENNESS = np.zeros(128, np.int32)  # by lamp letter, see Lanes.open
for _letter, _openness in {"G": 3, "g": 2, "y": 1, "Y": 1, "s": 2, "o": 2, "O": 3}.items():
    _OPENNESS[ord(_letter)] = _openness


class Fusion:
    """Keeps a list of vehicles on every lane and turns each cycle's batches into a `NetworkState`.

    A street that the network draws in pieces has one list a lane up to its stop line (`networks.pieces`); what comes
    in and what goes out is told by the network's own lanes.

    Each second, in this order:
    1. every vehicle moves under its leader, its lamp and the loops ahead (Krauss' safe speed);
    2. an upstream count finds the vehicle expected there (on its lane, else beside it) or makes one, and settles it
       on the lane that, by the edge's own counts, vehicles from that lane end up on;
    3. a stop-line count removes the front vehicle, or the likeliest of the edge, and hands it to the next edge along
       a movement that is open and drawn by the turning shares;
    4. a covered loop without a vehicle fetches or makes one; an uncovered loop holds back, moves over or ends the
       one believed there; what is made at a stop line is taken back from the same edge (its debt);
    5. tracks of roadside units and reports of equipped vehicles adopt, correct or make vehicles; within a unit's
       sight what it does not see ends after 3 s.

    Edges that nothing observes take the mirror's values, else the prior's, else they are not valid.
    Vehicles that report only now and then are matched to the map, and tell the speed of the edges that they drove.
    The lists live at the newest second whose loop reports are in (at most `MAX_LAG_S` back) and are driven forward to
    `now_s` on a copy for the answer.
    """

    def __init__(
        self, network: Network, detectors: Sequence[Detector], instrumented: Sequence[int], prior: PriorView | None
    ) -> None:
        self._network = network
        pieces = join_pieces(network)
        self._detectors = detectors = at_lines(pieces, detectors)
        self._places = StreetPlaces(pieces)
        self._streets = make_streets(network, detectors, pieces, _ends_frac(network, prior)[network.lanes.edge])
        self._share_prior, self._share_known = _share_prior(network, prior)
        self._pool = make_pool(self._streets)
        self._lanes = make_lanes(self._streets, self._share_prior)
        self._finder = LaneFinder(network, bridges=pieces.bridges())
        self._sparse = SparseProbes(network)
        self._routes = RouteBook(network)
        self._detector_lane = np.array([d.lane for d in detectors], dtype=np.int32)
        self._loop_street = pieces.line[self._detector_lane]
        own = np.arange(len(pieces.line), dtype=np.int32)
        self._seen_by = np.where(self._streets.up_m >= 0, own, pieces.beside)  # lane with the upstream loop of each
        self._stop_rows, self._up_rows = (street_loops(pieces, detectors, role) for role in ("stop", "upstream"))
        self._second: int | None = None
        self._loops = LoopRecord(detectors, -math.inf)
        self._health = LoopHealth(
            network, detectors, self._share_prior, _expected_vps(network, prior), _ends_frac(network, prior)
        )
        self._shut_s = np.zeros(len(network.lanes.ids))  # for how long no link of the lane has been open
        self._edges = EdgeEstimates(network, detectors, prior, _ends_frac(network, prior), pieces)
        self._lamps: list[LampView | None] = [None] * len(network.signals)
        self._lamp_links = [_vehicle_links(s.link_movements) for s in network.signals]
        self._units = {int(u): RoadsideSight(network, self._places, int(u)) for u in instrumented}
        self._tentative = np.zeros(TENTATIVE, np.int64), np.full(TENTATIVE, -np.inf)
        self._passed_up, self._passed_stop = self._settled_before()  # forgotten slowly
        self._since_up, self._since_stop, self._since_s = (np.zeros(len(network.lanes.ids)) for _ in range(3))
        self._share_age_s = np.full(len(network.movements.turn), PRIOR_AGE_S)
        self._hits_before = self._lanes.hits.copy()
        self._lane_sight_s = np.full(len(network.lanes.ids), -np.inf)  # newest moment a roadside unit saw most of it
        self._line_sight_s = np.full(len(network.lanes.ids), -np.inf)  # ... saw the part of it before the stop line
        self._lane_seen_s = np.full(len(network.lanes.ids), -np.inf)  # newest position report on the lane

        self._compile()

    def _compile(self) -> None:
        """Have every kernel compiled (or loaded from its cache) now, on empty lists, not within the first cycle."""
        streets, pool, lanes = self._streets, self._pool, self._lanes
        kernels.move_all(streets, pool, lanes, 0.0)
        kernels.apply_upstream_counts(streets, pool, lanes, 0.0)
        kernels.apply_stop_counts(streets, pool, lanes, 0.0)
        kernels.apply_occupancy(streets, pool, lanes, 0.0)
        kernels.doubt_movements(streets, pool, lanes, 0.0)
        kernels.fill_queues(streets, pool, lanes, 0.0)
        kernels.tidy(streets, pool, lanes, 0.0, FADE_HALF_LIFE_S)
        ints, floats, longs = np.zeros(0, np.int32), np.zeros(0), np.zeros(0, np.int64)
        placed = self._finder.place(floats, floats, floats, ints)
        for is_track in (True, False):
            kernels.apply_reports(
                streets,
                pool,
                lanes,
                0.0,
                is_track,
                longs,
                ints,
                ints,
                ints,
                *placed,
                floats,
                floats,
                *self._tentative,
            )

    def update(self, batches: Batches, now_s: float, mirror: MirrorView | None) -> NetworkState:
        """The state at `now_s` after these batches. Late rows count as of the first second not yet worked on."""
        now = math.floor(now_s)
        counts, probes, tracks = batches.counts, batches.probes, batches.tracks
        when = [np.ceil(b.measured_at_s - 1e-6).astype(np.int64) for b in (counts, tracks, probes, batches.signals)]
        leading = when[:1] if self._detectors else when
        heard = max((int(w.max()) for w in leading if len(w)), default=now - MAX_LAG_S)
        until = min(max(heard, now - MAX_LAG_S), now)
        if self._second is None:
            self._second = min((int(w.min()) for w in when if len(w)), default=until) - 1
            self._second = min(max(self._second, until - int(GAP_S)), until - 1)
            self._loops.start_s = float(self._second)
        if until - self._second > GAP_S:
            self._skip(until - int(MAX_LAG_S) - 1)
        begin = self._second + 1
        orders = [_split(w, begin, until) for w in when]
        for k, second in enumerate(range(begin, until + 1)):
            rows = [order[k] for order in orders]
            self._step(second, batches, rows)
        if until < begin:
            self._late(batches, when, float(self._second))
        self._second = max(until, self._second)
        ahead = np.flatnonzero(when[3] > until).astype(np.int32)
        self._lamp_rows(batches.signals, ahead[np.argsort(when[3][ahead], kind="stable")])
        return self._answer(now_s, mirror)

    def _step(self, second: int, batches: Batches, rows: list[Ints]) -> None:
        now_s = float(second)
        streets, pool, lanes = self._streets, self._pool, self._lanes
        self._lamp_rows(batches.signals, rows[3])
        self._loop_rows(second, batches.counts, rows[0])
        lanes.open_s[:] = np.where(lanes.open == 3, lanes.open_s + 1.0, 0.0)
        kernels.move_all(streets, pool, lanes, now_s)
        left = lanes.left.copy()
        kernels.apply_upstream_counts(streets, pool, lanes, now_s)
        lanes.left[:] = 0.0
        kernels.apply_stop_counts(streets, pool, lanes, now_s)
        kernels.apply_occupancy(streets, pool, lanes, now_s)
        left += lanes.left
        self._track_rows(batches.tracks, rows[1], now_s)
        self._probe_rows(batches.probes, rows[2], now_s)
        self._watch_sight(now_s)
        kernels.doubt_movements(streets, pool, lanes, now_s)
        kernels.fill_queues(streets, pool, lanes, now_s)
        kernels.tidy(streets, pool, lanes, now_s, FADE_HALF_LIFE_S)
        self._count_waits()
        self._edges.step(second, self._places.passed(left), self._places.sums(pool), self._seen(now_s))
        if second % RELEARN_S == 0:
            self._relearn()
            self._sparse.forget_before(now_s - FORGET_AFTER_S)

    def _loop_rows(self, second: int, batch: CountBatch, rows: Ints) -> None:
        lanes, loops = self._lanes, self._loops
        rows = self._trusted(second, batch, rows)
        room = (lanes.up_busy_s < 3.0) & (lanes.listed < 0.7 * np.diff(self._streets.offset))
        room = room[self._places.pieces.line]
        moves = self._network.movements
        some, sure = np.zeros(len(lanes.listed), np.bool_), np.ones(len(lanes.listed), np.bool_)
        np.logical_or.at(some, moves.from_lane, (lanes.open >= 2) & room[moves.to_lane])
        np.logical_and.at(sure, moves.from_lane, (lanes.open == 3) & room[moves.to_lane])
        may_leave = np.where(some & sure, 1.0, UNSURE_GREEN * some)
        loops.step(second, batch, rows, may_leave[self._detector_lane])
        live = loops.live(float(second))
        for role_rows, on, count, share, speed, idle, busy in (
            (
                self._stop_rows,
                lanes.stop_live,
                lanes.stop_count,
                lanes.stop_share,
                lanes.stop_mps,
                lanes.stop_idle_s,
                lanes.stop_busy_s,
            ),
            (
                self._up_rows,
                lanes.up_live,
                lanes.up_count,
                lanes.up_share,
                lanes.up_mps,
                lanes.up_idle_s,
                lanes.up_busy_s,
            ),
        ):
            lane, told = self._loop_street[role_rows], live[role_rows]
            on[lane] = told
            count[lane] = np.where(told, loops.count[role_rows], 0)
            share[lane] = np.where(told, loops.share[role_rows], -1.0)
            speed[lane] = loops.speed_mps[role_rows]
            idle[lane], busy[lane] = loops.idle_s[role_rows], loops.busy_s[role_rows]
        self._since_up += lanes.up_count
        self._since_stop += lanes.stop_count
        self._learn_settling()
        passed = np.zeros(len(self._detectors))
        passed[self._up_rows] = lanes.stop_count[self._loop_street[self._up_rows]]
        loops.note_passed(passed)

    @property
    def distrusted(self) -> Bools:
        """(D,) loops that are left out because they seem to lie."""
        return self._health.excluded

    def _trusted(self, second: int, batch: CountBatch, rows: Ints) -> Ints:
        """The rows of loops that are believed; what those that are not told lately is taken back."""
        moves = self._network.movements
        heard = np.array([v is not None and second - v.measured_at_s <= LAMPS_LIVE_S for v in self._lamps], np.bool_)
        told = (moves.signal >= 0) & heard[moves.signal] if len(heard) else np.zeros(len(moves.signal), np.bool_)
        may_go = ~told | (self._lanes.open >= 1)
        shut = np.bincount(moves.from_lane, may_go, len(self._shut_s)) == 0
        self._shut_s = np.where(shut, self._shut_s + 1.0, 0.0)
        before = self._health.excluded.copy()
        self._health.note(second, batch, rows, self._shut_s, self._loops.stuck)
        excluded = self._health.excluded
        self._loops.discard(excluded & ~before)
        return rows[~excluded[batch.detector[rows]]]

    def _track_rows(self, batch: TrackBatch, rows: Ints, now_s: float) -> None:
        for number in np.intersect1d(batch.unit[rows], list(self._units)).tolist():
            self._units[number].spoke_s = float(batch.measured_at_s[rows[batch.unit[rows] == number]].max())
        rows = rows[np.isin(batch.kind[rows], DRIVING_KINDS)]
        key = (batch.unit[rows].astype(np.int64) + 1 << 44) | (batch.object_id[rows] & ((1 << 44) - 1))
        believed = self._report_rows(True, key, batch, rows, np.full(len(rows), -1, np.int32), now_s)
        for number, unit in self._units.items():
            own = rows[believed & (batch.unit[rows] == number)]
            if len(own):
                unit.hear(float(batch.measured_at_s[own].max()))
                unit.widen(batch.x_m[own], batch.y_m[own])

    def _probe_rows(self, batch: ProbeBatch, rows: Ints, now_s: float) -> None:
        rows = rows[np.isin(batch.kind[rows], DRIVING_KINDS)]
        key = np.where(batch.vehicle[rows] == 0, 1, batch.vehicle[rows])
        self._report_rows(False, key, batch, rows, batch.destination_edge[rows].astype(np.int32), now_s)
        self._edges.note_travel(*self._sparse.take(batch, rows))
        self._follow_routes()

    def _report_rows(
        self,
        is_track: bool,
        key: NDArray[np.int64],
        batch: TrackBatch | ProbeBatch,
        rows: Ints,
        bound: Ints,
        now_s: float,
    ) -> Bools:
        """Apply position reports; answers which rows belong to a vehicle known before."""
        pool = self._pool
        if not len(rows):
            return np.zeros(0, np.bool_)
        names = pool.track if is_track else pool.probe
        known = _look_up(names, pool.lane, key)
        street = np.where(known >= 0, pool.lane[known], -1).astype(np.int32)
        believed = np.where(known >= 0, self._places.of_pool(pool, known)[0], -1).astype(np.int32)
        x, y, heading = batch.x_m[rows], batch.y_m[rows], batch.heading_rad[rows]
        placed = self._finder.place(x, y, heading, believed)
        self._health.witnesses.see(
            is_track,
            key,
            placed.lane,
            placed.position_m,
            placed.lateral_m,
            batch.speed_mps[rows],
            batch.measured_at_s[rows],
        )
        kernels.apply_reports(
            self._streets,
            pool,
            self._lanes,
            now_s,
            is_track,
            key,
            known,
            batch.kind[rows].astype(np.int32),
            bound,
            *self._places.of_reports(placed, street, believed),
            batch.speed_mps[rows],
            batch.measured_at_s[rows],
            *self._tentative,
        )
        on_lane = placed.lane >= 0
        np.maximum.at(self._lane_seen_s, placed.lane[on_lane], batch.measured_at_s[rows][on_lane])
        return known >= 0

    def _seen(self, now_s: float) -> tuple[Ints, Floats]:
        """Lanes and speeds of the vehicles that reports have just confirmed."""
        pool = self._pool
        fresh = (pool.lane >= 0) & (pool.position_m >= 0.0)
        fresh &= now_s - np.maximum(pool.probe_s, pool.track_s) <= SEEN_FRESH_S
        rows = np.flatnonzero(fresh)
        lane, position_m = self._places.of_pool(pool, rows)
        return lane[position_m >= 0.0], pool.speed_mps[rows][position_m >= 0.0]

    def _count_waits(self) -> None:
        """For how long everybody has stood or crawled; who merely slows down keeps the time."""
        pool, lanes = self._pool, self._lanes
        stands = (pool.lane >= 0) & (pool.speed_mps < CRAWL_MPS)
        drives = (pool.lane < 0) | (pool.speed_mps > 3.0 * CRAWL_MPS)
        pool.stood_s[:] = np.where(stands, pool.stood_s + 1.0, np.where(drives, 0.0, pool.stood_s))
        front = np.flatnonzero((lanes.listed > 0) & (lanes.stop_held != 0))
        v = lanes.order[self._streets.offset[front]]
        pool.stood_s[v] = np.maximum(pool.stood_s[v], lanes.stop_busy_s[front])

    def _follow_routes(self) -> None:
        """Equipped vehicles that told their destination take the movement that leads there."""
        pool = self._pool
        stale = np.flatnonzero((pool.lane >= 0) & (pool.destination >= 0) & ~pool.sure)
        for v in stale:
            movement = self._routes.movement(int(pool.lane[v]), int(pool.destination[v]))
            if movement >= 0:
                pool.movement[v] = movement
                pool.sure[v] = True

    def _watch_sight(self, now_s: float) -> None:
        """Where live roadside units look, their silence about a vehicle counts against it."""
        self._lanes.seen_from_m[:], self._lanes.seen_to_m[:] = np.inf, -np.inf
        for unit in self._units.values():
            if now_s - unit.heard_s <= UNIT_LIVE_S:
                lanes, low, high = unit.sight()
                streets, low_m, high_m = unit.of_streets
                self._lanes.seen_from_m[streets], self._lanes.seen_to_m[streets] = low_m, high_m
                length_m = self._network.lanes.length_m[lanes]
                self._lane_sight_s[lanes[high - low >= 0.7 * length_m]] = unit.heard_s
                self._line_sight_s[lanes[high - low >= QUEUE_SIGHT_FRAC * length_m]] = unit.heard_s

    def _lamp_rows(self, batch: SignalStateBatch, rows: Ints) -> None:
        for row in rows:
            signal, state, at_s = int(batch.signal[row]), batch.state[row], float(batch.measured_at_s[row])
            before = self._lamps[signal]
            links, owners = self._lamp_links[signal]
            if (before is not None and at_s <= before.measured_at_s) or len(state) != self._network.signals[
                signal
            ].link_count:
                continue
            version = int(batch.plan_version[row])
            if before is None:
                since = np.full(len(state), -np.inf)
            elif before.state == state:
                since = before.since_s
            else:
                changed = np.array([_colour(a) != _colour(b) for a, b in zip(before.state, state, strict=True)])
                since = np.where(changed, at_s, before.since_s)
            if before is None or before.state != state:
                openness = _OPENNESS[np.frombuffer(state.encode("ascii"), dtype=np.uint8)]
                self._lanes.open[owners] = openness[links]
            self._lamps[signal] = LampView(state, since, at_s, version)

    def _relearn(self) -> None:
        """Turning shares and the shift of vehicles between the lanes of an edge, from what has passed."""
        lanes, network = self._lanes, self._network
        lanes.hits[:] *= 0.5 ** (RELEARN_S / HITS_HALF_LIFE_S)
        gained = lanes.hits > self._hits_before
        self._share_age_s = np.where(gained, 0.0, self._share_age_s + RELEARN_S)
        self._hits_before = lanes.hits.copy()
        weight = PRIOR_VEHICLES * self._share_prior + lanes.hits
        total = np.bincount(network.movements.from_lane, weight, len(network.lanes.ids))
        lanes.share[:] = weight / total[network.movements.from_lane]
        for passed, cum in ((self._passed_up, lanes.up_cum), (self._passed_stop, lanes.stop_cum)):
            passed *= 0.5 ** (RELEARN_S / HITS_HALF_LIFE_S)
            cum[:] = self._parts(passed)
        first = self._streets.first
        known = self._edge_total(self._passed_up) >= 20
        complete = np.ones(len(first), np.bool_)
        motor = np.diff(self._streets.offset) > 0
        lacking = motor & ((self._streets.up_m[self._seen_by] < 0) | (self._streets.stop_m < 0))
        np.logical_and.at(complete, first, ~lacking)
        identity = ~(known & complete[first])
        lanes.stop_cum[identity] = lanes.up_cum[identity]

    def _learn_settling(self) -> None:
        """Counts between two moments when an edge is empty between its loops tell where its vehicles end up.

        Counts over any other span would take a lane whose queue grows for one that vehicles leave.
        """
        lanes, first = self._lanes, self._streets.first
        self._since_s += 1.0
        up_idle_s = lanes.up_idle_s[self._seen_by]
        quiet = (lanes.stop_idle_s >= 3.0) & (up_idle_s >= 5.0) & (lanes.listed <= 1)
        busy_lanes = np.bincount(first, ~quiet, len(first))[first]
        clear = busy_lanes == 0
        balanced = np.abs(self._edge_total(self._since_up) - self._edge_total(self._since_stop)) <= 2.0
        learn = clear & balanced
        self._passed_up[learn] += self._since_up[learn]
        self._passed_stop[learn] += self._since_stop[learn]
        done = clear | (self._since_s > SETTLE_SPAN_S)
        for counts in (self._since_up, self._since_stop, self._since_s):
            counts[done] = 0.0

    def _settled_before(self) -> tuple[Floats, Floats]:
        """What is thought to have passed upstream loops and stop lines before anything was counted (L,).

        Nothing, but where a lane parts on its way to the stop line its turning shares tell where its vehicles go.
        """
        streets, pieces = self._streets, self._places.pieces
        motor, own = np.diff(streets.offset) > 0, np.arange(len(streets.first))
        parting = np.bincount(streets.first, motor & (streets.beside != own), len(motor))[streets.first] > 0
        share = np.where(pieces.into >= 0, self._share_prior[pieces.into], 1.0)
        total = np.bincount(streets.beside, np.where(motor, share, 0.0), len(motor))[streets.beside]
        stop = np.where(motor & parting, PARTING_VEHICLES * share / np.maximum(total, 1e-9), 0.0)
        up = np.bincount(np.where(motor, self._seen_by, own), stop, len(motor))
        return np.maximum(up, 1e-9), np.maximum(stop, 1e-9)

    def _edge_total(self, passed: Floats) -> Floats:
        total: Floats = np.bincount(self._streets.first, passed, len(passed)).astype(np.float64)
        return total[self._streets.first]

    def _parts(self, passed: Floats) -> Floats:
        """Upper end of each lane's part of its edge's total, the lanes taken in order."""
        running = np.concatenate([[0.0], np.cumsum(passed)])
        first = self._streets.first
        parts: Floats = (running[1:] - running[first]) / np.maximum(self._edge_total(passed), 1e-12)
        parts[np.arange(len(passed)) + 1 == self._streets.last] = 1.0
        return parts

    def _skip(self, second: int) -> None:
        """A pause too long to step through: belief in every vehicle fades with it."""
        assert self._second is not None
        pause_s = second - self._second
        pool = self._pool
        pool.certainty[:] *= 0.5 ** (pause_s / FADE_HALF_LIFE_S)
        pool.counted[:] = False
        self._loops.forget(pause_s, second)
        self._health.forget()
        self._edges.forget(pause_s, second)
        kernels.tidy(self._streets, pool, self._lanes, float(second), FADE_HALF_LIFE_S)
        self._second = second

    def _late(self, batches: Batches, when: list[NDArray[np.int64]], now_s: float) -> None:
        """No new second to work on: position reports still correct the lists."""
        self._track_rows(batches.tracks, np.arange(len(when[1]), dtype=np.int32), now_s)
        self._probe_rows(batches.probes, np.arange(len(when[2]), dtype=np.int32), now_s)

    def _coming(self, pool: Pool) -> Floats:
        """Of the expected vehicles of each lane (L,) those that its upstream loop has not counted yet."""
        rows = np.flatnonzero((pool.lane >= 0) & (pool.position_m >= 0.0) & ~pool.counted)
        lane, _ = self._places.of_pool(pool, rows)
        coming: Floats = np.bincount(lane, pool.certainty[rows], len(self._shut_s)).astype(np.float64)
        return coming

    def _answer(self, now_s: float, mirror: MirrorView | None) -> NetworkState:
        assert self._second is not None
        pool, lanes = self._pool, self._lanes
        ahead = min(int(now_s) - self._second, MAX_LAG_S)
        if ahead > 0:
            pool = deepcopy(pool)
            lanes = deepcopy(lanes)
            lanes.stop_share[:] = -1.0
            lanes.up_share[:] = -1.0
            for k in range(ahead):
                kernels.move_all(self._streets, pool, lanes, float(self._second + k + 1))
        vehicles, queue, _ = self._places.sums(pool)
        turning = self._shares()
        edges = self._edges.answer(
            now_s,
            self._loops,
            lanes,
            (turning.value, turning.variance),
            self._lane_seen_s,
            (self._lane_sight_s, self._line_sight_s),
            vehicles,
            queue,
            self._coming(pool),
            mirror,
        )
        return NetworkState(
            now_s,
            edges.flow_vps,
            edges.speed_mps,
            edges.density_vpm,
            edges.lane_queue,
            edges.lane_vehicles,
            turning,
            _table(pool, self._places, self._network, now_s),
            tuple(self._lamps),
            edges.coverage,
            tuple(
                self._health.reasons() + self._loops.faults(now_s, self._health.excluded) + self._silent_units(now_s)
            ),
            WINDOW_S,
        )

    def _shares(self) -> Estimate:
        lanes, network = self._lanes, self._network
        total = np.bincount(network.movements.from_lane, lanes.hits, len(network.lanes.ids))[
            network.movements.from_lane
        ]
        share = lanes.share.copy()
        ways = np.bincount(network.movements.from_lane, minlength=len(network.lanes.ids))[network.movements.from_lane]
        variance = np.where(ways > 1, share * (1 - share) / (total + PRIOR_VEHICLES * self._share_known + 1), 0.0)
        valid = self._share_known | (ways == 1) | (total >= 5)
        return Estimate(share, variance, self._share_age_s.copy(), valid)

    def _silent_units(self, now_s: float) -> list[str]:
        assert self._second is not None
        return [
            f"roadside unit {self._network.signals[u].id}: silent"
            for u, unit in self._units.items()
            if now_s - max(unit.spoke_s, self._loops.start_s) > SILENT_UNIT_S
        ]


def _share_prior(network: Network, prior: PriorView | None) -> tuple[Floats, Bools]:
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


def _ends_frac(network: Network, prior: PriorView | None) -> Floats:
    """(E,) share of the vehicles of an edge that end their trip on it; 0 where nothing is known."""
    if prior is None:
        return np.zeros(len(network.edges.ids))
    flow = np.where(prior.profile.valid, prior.profile.flow_vps, 0.0).sum(axis=0)
    share: Floats = np.clip(prior.arrived_vps.sum(axis=0) / np.where(flow > 0.0, flow, np.inf), 0.0, 1.0)
    return share


def _expected_vps(network: Network, prior: PriorView | None) -> Floats:
    """(E,) mean flow that the prior expects; NaN where it knows none."""
    if prior is None or not prior.profile.grid.count:
        return np.full(len(network.edges.ids), np.nan)
    known = prior.profile.valid
    total = np.where(known, prior.profile.flow_vps, 0.0).sum(axis=0)
    return np.where(known.any(axis=0), total / np.maximum(known.sum(axis=0), 1), np.nan)


def _vehicle_links(link_movements: tuple[tuple[int, ...], ...]) -> tuple[Ints, Ints]:
    pairs = [(link, m) for link, owned in enumerate(link_movements) for m in owned]
    table = np.array(pairs, dtype=np.int32).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def _colour(lamp: str) -> str:
    return "green" if lamp in "Gg" else "yellow" if lamp in "yY" else "red"


def _split(when: NDArray[np.int64], begin: int, until: int) -> list[Ints]:
    """Row numbers of each second begin..until; earlier rows go with the first, later ones with the last."""
    order = np.argsort(when, kind="stable").astype(np.int32)
    inside = np.clip(when[order], begin, max(until, begin))
    ends = np.searchsorted(inside, np.arange(begin, until + 2))
    return [order[a:b] for a, b in pairwise(ends)]


def _look_up(names: NDArray[np.int64], lane: Ints, key: NDArray[np.int64]) -> Ints:
    """Pool row that carries each key, -1 none."""
    used = np.flatnonzero((lane >= 0) & (names != 0))
    if not len(used):
        return np.full(len(key), -1, np.int32)
    order = used[np.argsort(names[used], kind="stable")]
    at = np.minimum(np.searchsorted(names[order], key), len(order) - 1)
    return np.where(names[order[at]] == key, order[at], -1).astype(np.int32)


def _table(pool: Pool, places: StreetPlaces, network: Network, now_s: float) -> VehicleTable:
    """Vehicles on lanes and in the junctions before them; those over a stop line but still before it are left out."""
    rows = np.flatnonzero(pool.lane >= 0)
    rows = rows[pool.position_m[rows] <= places.pieces.end_m[pool.lane[rows]]]
    lane, position_m = places.of_pool(pool, rows)
    order = np.lexsort((-position_m, lane))
    rows, lane, position_m = rows[order], lane[order], position_m[order]
    street, movement = pool.lane[rows], pool.movement[rows]
    probe, track = pool.probe[rows], pool.track[rows]
    name = np.where(probe != 0, probe, np.where(track != 0, track, -pool.serial[rows]))
    due = HELD_BELIEF ** pool.held_s[rows]
    at_line = (movement >= 0) & (network.movements.signal[movement] >= 0)
    return VehicleTable(
        name,
        lane,
        position_m,
        pool.speed_mps[rows].copy(),
        pool.kind[rows].copy(),
        np.where(lane == street, movement, places.onward(lane, street)).astype(np.int32),
        probe != 0,
        pool.destination[rows].copy(),
        np.clip(pool.certainty[rows], 0.0, 1.0) * due,
        np.maximum(now_s - pool.seen_s[rows], 0.0),
        pool.sure[rows].copy(),
        pool.stood_s[rows].copy(),
        line_movement=np.where(at_line, movement, -1).astype(np.int32),
    )
