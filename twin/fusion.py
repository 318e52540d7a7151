"""Feeds -> one state of the whole network, with variance and age. See `Fusion`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy
from itertools import pairwise

import numpy as np

from networks.batches import Batches, ProbeBatch, TrackBatch
from networks.city import Detector
from networks.graph import Bools, Int64s, Ints, Network
from networks.pieces import join_pieces
from networks.state import NetworkState
from twin.edge_estimates import EdgeEstimates, Listed, MirrorView, Seen
from twin.fusion_kernels import (
    CRAWL_MPS,
    Lists,
    apply_occupancy,
    apply_stop_counts,
    apply_upstream_counts,
    doubt_movements,
    fill_queues,
    move_all,
    tidy,
)
from twin.heard_loops import HeardLoops
from twin.lamp_views import LampViews
from twin.lane_vehicles import at_lines, make_lanes, make_pool, make_streets
from twin.list_reports import ListReports, driving
from twin.loop_record import WINDOW_S
from twin.prior_view import PriorView, ends_frac, mean_flow
from twin.roadside_units import RoadsideUnits
from twin.sensor_health import LoopHealth
from twin.settling import Settling
from twin.sparse_probes import FORGET_AFTER_S, SparseProbes
from twin.street_places import StreetPlaces
from twin.turning_shares import TurningShares
from twin.vehicle_table import read_off

MAX_LAG_S = 2  # the lists wait so long for the loops of a second, then go on
GAP_S = 30.0  # a longer pause is not stepped through: the lists fade instead
FADE_HALF_LIFE_S = 45.0  # of the belief in a vehicle that nothing has confirmed
RELEARN_S = 10


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
        pieces, ends = join_pieces(network), ends_frac(network, prior)
        detectors = at_lines(pieces, detectors)
        self._network, self._detectors = network, detectors
        self._places = StreetPlaces(pieces)
        self._shares = TurningShares(network, prior)
        share = self._shares.prior
        streets = make_streets(network, detectors, pieces, ends[network.lanes.edge])
        self._lists = Lists(streets, make_pool(streets), make_lanes(streets, share))
        self._settling = Settling(streets, pieces, share)
        self._lamps = LampViews(network)
        health = LoopHealth(network, detectors, share, mean_flow(network, prior), ends)
        self._loops = HeardLoops(network, detectors, self._lists, pieces, health)
        self._reports = ListReports(network, self._lists, self._places, health.witnesses)
        self._sparse = SparseProbes(network)
        self._units = RoadsideUnits(network, self._places, instrumented)
        self._edges = EdgeEstimates(network, detectors, prior, ends, pieces)
        self._second: int | None = None
        self._compile()

    def _compile(self) -> None:
        """Have every kernel compiled (or loaded from its cache) now, on empty lists, not within the first cycle."""
        move_all(*self._lists, 0.0)
        apply_upstream_counts(*self._lists, 0.0)
        apply_stop_counts(*self._lists, 0.0)
        apply_occupancy(*self._lists, 0.0)
        doubt_movements(*self._lists, 0.0)
        fill_queues(*self._lists, 0.0)
        tidy(*self._lists, 0.0, FADE_HALF_LIFE_S)
        self._reports.compile()

    @property
    def distrusted(self) -> Bools:
        """(D,) loops that are left out because they seem to lie."""
        return self._loops.health.excluded

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
            self._loops.record.start_s = float(self._second)
        if until - self._second > GAP_S:
            self._skip(until - int(MAX_LAG_S) - 1)
        begin = self._second + 1
        orders = [_split(w, begin, until) for w in when]
        for k, second in enumerate(range(begin, until + 1)):
            self._step(second, batches, [order[k] for order in orders])
        if until < begin:
            self._late(batches, when, float(self._second))
        self._second = max(until, self._second)
        ahead = np.flatnonzero(when[3] > until).astype(np.int32)
        ahead = ahead[np.argsort(when[3][ahead], kind="stable")]
        self._lamps.note(batches.signals, ahead, self._lists.lanes.open)
        return self._answer(now_s, mirror)

    def _step(self, second: int, batches: Batches, rows: list[Ints]) -> None:
        now_s, lists, lanes = float(second), self._lists, self._lists.lanes
        self._lamps.note(batches.signals, rows[3], lanes.open)
        self._loops.step(second, batches.counts, rows[0], self._lamps.live(second))
        self._settling.step(lanes)
        lanes.open_s[:] = np.where(lanes.open == 3, lanes.open_s + 1.0, 0.0)
        move_all(*lists, now_s)
        left = lanes.left.copy()
        apply_upstream_counts(*lists, now_s)
        lanes.left[:] = 0.0
        apply_stop_counts(*lists, now_s)
        apply_occupancy(*lists, now_s)
        left += lanes.left
        self._take_tracks(batches.tracks, rows[1], now_s)
        self._take_probes(batches.probes, rows[2], now_s)
        self._units.look(lanes, now_s)
        doubt_movements(*lists, now_s)
        fill_queues(*lists, now_s)
        tidy(*lists, now_s, FADE_HALF_LIFE_S)
        self._count_waits()
        self._edges.step(
            second, self._places.passed(left), self._places.sums(lists.pool), self._reports.confirmed(now_s)
        )
        if second % RELEARN_S == 0:
            self._shares.learn(lanes, RELEARN_S)
            self._settling.learn(lanes, RELEARN_S)
            self._sparse.forget_before(now_s - FORGET_AFTER_S)

    def _take_tracks(self, batch: TrackBatch, rows: Ints, now_s: float) -> None:
        self._units.note_spoken(batch, rows)
        rows = driving(batch, rows)
        known = self._reports.take_tracks(batch, rows, now_s)
        self._units.note_known(batch, rows[known])

    def _take_probes(self, batch: ProbeBatch, rows: Ints, now_s: float) -> None:
        rows = driving(batch, rows)
        self._reports.take_probes(batch, rows, now_s)
        self._edges.note_travel(*self._sparse.take(batch, rows))

    def _count_waits(self) -> None:
        """For how long everybody has stood or crawled; who merely slows down keeps the time."""
        streets, pool, lanes = self._lists
        stands = (pool.lane >= 0) & (pool.speed_mps < CRAWL_MPS)
        drives = (pool.lane < 0) | (pool.speed_mps > 3.0 * CRAWL_MPS)
        pool.stood_s[:] = np.where(stands, pool.stood_s + 1.0, np.where(drives, 0.0, pool.stood_s))
        front = np.flatnonzero((lanes.listed > 0) & (lanes.stop_held != 0))
        v = lanes.order[streets.offset[front]]
        pool.stood_s[v] = np.maximum(pool.stood_s[v], lanes.stop_busy_s[front])

    def _skip(self, second: int) -> None:
        """A pause too long to step through: belief in every vehicle fades with it."""
        assert self._second is not None
        pause_s = second - self._second
        pool = self._lists.pool
        pool.certainty[:] *= 0.5 ** (pause_s / FADE_HALF_LIFE_S)
        pool.counted[:] = False
        self._loops.forget(pause_s, second)
        self._edges.forget(pause_s, second)
        tidy(*self._lists, float(second), FADE_HALF_LIFE_S)
        self._second = second

    def _late(self, batches: Batches, when: list[Int64s], now_s: float) -> None:
        """No new second to work on: position reports still correct the lists."""
        self._take_tracks(batches.tracks, np.arange(len(when[1]), dtype=np.int32), now_s)
        self._take_probes(batches.probes, np.arange(len(when[2]), dtype=np.int32), now_s)

    def _answer(self, now_s: float, mirror: MirrorView | None) -> NetworkState:
        loops, lists = self._loops, self._driven_until(now_s)
        pool = lists.pool
        vehicles, queue, _ = self._places.sums(pool)
        turning = self._shares.estimate(lists.lanes)
        edges = self._edges.answer(
            now_s,
            loops.record,
            lists.lanes,
            (turning.value, turning.variance),
            Seen(self._reports.lane_s, self._units.lane_s, self._units.line_s),
            Listed(vehicles, queue, self._places.coming(pool)),
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
            read_off(pool, self._places, self._network, now_s),
            tuple(self._lamps.views),
            edges.coverage,
            tuple(loops.faults(now_s) + self._units.silent(now_s, loops.record.start_s)),
            WINDOW_S,
        )

    def _driven_until(self, now_s: float) -> Lists:
        """The lists, or copies driven forward over the seconds whose loop reports are still to come."""
        assert self._second is not None
        ahead = min(int(now_s) - self._second, MAX_LAG_S)
        if ahead <= 0:
            return self._lists
        lists = self._lists._replace(pool=deepcopy(self._lists.pool), lanes=deepcopy(self._lists.lanes))
        lists.lanes.stop_share[:] = -1.0
        lists.lanes.up_share[:] = -1.0
        for k in range(ahead):
            move_all(*lists, float(self._second + k + 1))
        return lists


def _split(when: Int64s, begin: int, until: int) -> list[Ints]:
    """Row numbers of each second begin..until; earlier rows go with the first, later ones with the last."""
    order = np.argsort(when, kind="stable").astype(np.int32)
    inside = np.clip(when[order], begin, max(until, begin))
    ends = np.searchsorted(inside, np.arange(begin, until + 2))
    return [order[a:b] for a, b in pairwise(ends)]
