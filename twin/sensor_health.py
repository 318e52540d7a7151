"""Which loops lie: counts held against what the loops around them say, and against the lamps. See `LoopHealth`."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.special import betaln

from networks.batches import CountBatch
from networks.city import Detector
from networks.graph import Bools, Floats, Ints, Network
from twin.loop_witnesses import LoopWitnesses
from twin.odd_events import TRUST_KEPT, OddEvents
from twin.selected_inverse import factorise, inverse_diagonal

BIN_S, BINS = 30, 10  # counts are compared over five minutes
LEAST_BINS = 4  # two minutes must be heard before anybody is judged
LIARS, HONEST = 1.0, 99.0  # of loops, to begin with: those left out since tell how many lie in this city
FEWEST = 5.0  # vehicles counted, before which little can be known of a loop
MOST_LIARS = 0.3
SURE = 4.0  # log-odds of a lie at which a loop is left out: of 55 such, one is honest if the model is right
WORTH_TELLING = 1.5  # log-likelihood ratio that is given as a reason
CLEAR = 2.0  # innovations, in standard deviations
PARDON = 10  # clear ones in a row before it is heard again
QUICK_S = 2.0  # reports of longer intervals tell neither of lamps nor of single vehicles
RED_AFTER_S = 4.0  # who comes onto a stop loop so long after the end of green has no green to leave it by
STOOD_S = 2  # ... but whoever stood on it may have moved over to the next lane
LATE_S = 6  # counts of a time that a loop was covered come no later
# Times covered without a count, counts of two at once, counts at red: their shares if a loop lies; Beta laws if not
LIED_PULSE, LIED_TWICE, LIED_RED = 0.5, 0.9, 0.5
PULSE, TWICE, RED = (0.1, 20.0), (0.02, 10.0), (0.05, 10.0)
WRONG_FRAC = 0.25  # a count must be off by such a share of the larger value
MOST_OFF = 3.0  # that the innovation adds: neighbours may lie, and turns differ from what was expected
FAR_OFF, TWICE_FAR = 8.0, 2  # innovations that convict alone, judgements in a row; honest loops reached 6.7
CHANGED, STAYED = 0.7, 3.0  # of vehicles between the loops of a lane, to begin with
PAIRED, QUEUED = 1.5, 3.0  # of vehicles between the loops of a lane, variance over that of independent ones; in jams
CLUSTERED = 3.0  # variance of counts over that of a Poisson process: platoons and cycles
USUAL_BINS = 10.0  # half-life of a loop's own rate
QUEUE_BINS = 4.0  # ... of what may have been counted by it and still wait before the stop line
STRANDED_S, STRANDED_PER_S = 15, 0.1  # covered so long before a stop line empty as long tells so much a second
JAM_SPACING_M = 6.5
ROUNDS = 12
TUKEY, HUBER = 4.685, 1.345  # Beaton and Tukey (1974), Huber (1964): nearly as good as least squares without liars
COUNT_SD_VEH, COUNT_SD_SHARE = 1.5, 0.05  # of an honest count
STORED_VEH = 1.5  # by which the vehicles on a lane differ between begin and end of a window, sd
CHANGED_SHARE = 0.5  # of a lane's vehicles that come or go between its loops where there are other lanes, sd

_Row = tuple[list[int], list[float], float, float]  # unknowns, factors, sd in vehicles, sd as a share of the flow


class LoopHealth:
    """Judges every loop each half minute and says which are to be left out, and why.

    What speaks against a loop is added up as a log-likelihood ratio of a lie against the truth, and convicts by the
    law of Bayes: the share of loops that lie is taken for small until others have been left out. There are

    - single events that are odd (`OddEvents`): vehicles that report their places pass unnoticed (`LoopWitnesses`), it
      becomes covered and counts nobody, it counts two within a second, it counts at red who came at red;
    - silence, for its own rate before, while the other loops of its edge or of its lane count on; an upstream loop
      that stays covered before an empty stop line;
    - the innovation: what is left between its count and what all others tell.

    What rests on the word of one other loop counts for no more than that one can be believed. Innovations come from a
    fit of all counts at once. The unknowns are vehicles in five minutes past the begin and the end of every lane near
    loops. They are tied by conservation (what comes onto an edge leaves it, but for a queue; what leaves lanes goes
    where the turning shares say) and, weakly, by the flows expected. They are fitted by iterated least squares with
    Tukey's biweight, so that a count far from what the others agree on loses its weight; loops in doubt are left out.
    This is bad-data analysis as in state estimation of power systems (Abur and Exposito 2004, chapters 5 and 6), with
    a redescending estimator in place of deleting one by one. Diagnostics of single loops: Chen, Kwon, Rice,
    Skabardonis and Varaiya (2003).
    """

    def __init__(
        self, network: Network, detectors: Sequence[Detector], share: Floats, expected_vps: Floats, ends_frac: Floats
    ) -> None:
        """share (M,): turning shares of movements; expected_vps (E,): flows to start from, NaN unknown.

        ends_frac (E,): share of the vehicles of an edge that go no further, whatever the lamps show.
        """
        self._ids = tuple(d.id for d in detectors)
        count = len(detectors)
        self._stop = np.array([d.role == "stop" for d in detectors], np.bool_)
        self._lane = np.array([d.lane for d in detectors], np.int32)
        self._bins: deque[_Bin] = deque(maxlen=BINS)
        self._bin = _Bin.empty(count)
        self._other = np.full(count, -1, np.int32)  # the other loop of the lane
        for lane in set(self._lane.tolist()):
            pair = np.flatnonzero(self._lane == lane)
            if len(pair) == 2:
                self._other[pair] = pair[::-1]
        at_m = np.array([d.position_m for d in detectors])
        self._room = np.where(self._other >= 0, np.abs(at_m - at_m[self._other]) / JAM_SPACING_M, 0.0)
        self._second = -1
        self._far, self._clear = np.zeros(count, np.int32), np.zeros(count, np.int32)
        self._reason = [""] * count
        self._loop_edge = network.lanes.edge[self._lane]
        self._usual, self._usual_bins = np.zeros(count), np.zeros(count)
        self._others = np.zeros(count)  # what the other loop of the lane counted meanwhile
        self._silence, self._past, self._between = np.zeros(count), np.zeros(count), np.zeros(count)
        self.excluded: Bools = np.zeros(count, np.bool_)
        self.innovation = np.zeros(count)  # standard deviations, as last judged
        self.witnesses = LoopWitnesses(network, detectors)
        self._events = _Events(self._stop, ends_frac[self._loop_edge])
        self._balance = _Balance(network, self._lane, self._stop, share, expected_vps, float(BIN_S * BINS))
        self._stranded = np.zeros(count)

    def note(self, second: int, batch: CountBatch, rows: Ints, red_s: Floats, stuck: Bools) -> None:
        """Take the reports `rows` as those of this second.

        red_s (L,): for how long a lane has had no link open. stuck (D,): known from elsewhere to be no witness.
        """
        self.witnesses.step(second, batch, rows)
        self._events.step(second, batch, rows, red_s[self._lane] > RED_AFTER_S)
        waits = ~self._stop & (self._other >= 0) & (self._events.dry_s >= STRANDED_S)
        waits &= self._events.free_s[self._other] >= STRANDED_S
        self._stranded = np.where(self._events.dry_s > 0, self._stranded + STRANDED_PER_S * waits, 0.0)
        if len(rows):
            self._bin.add(batch, rows)
        if second % BIN_S == 0 and second != self._second:
            self._second = second
            self._bins.append(self._bin)
            self._bin = _Bin.empty(len(self._ids))
            if len(self._bins) >= LEAST_BINS:
                self._judge(stuck)

    def forget(self) -> None:
        """A pause: what was counted before it is no window with what comes after."""
        self._bins.clear()
        self.witnesses.forget()
        self._events.forget()
        self._bin = _Bin.empty(len(self._ids))

    def reasons(self) -> list[str]:
        """One line a loop that is left out."""
        return [f"loop {self._ids[d]}: {self._reason[d]}" for d in np.flatnonzero(self.excluded).tolist()]

    def _listen(self, told: Bools) -> None:
        """Bring up to date for how much each loop has been silent, by its own rate, and what passed the other one."""
        last = self._bins[-1]
        still = told & (last.counts == 0) & (last.lowest == last.highest)
        free = still & (last.highest == 0.0)  # covered all the time may be a queue
        rate = self._usual / np.maximum(self._usual_bins, 1.0)
        edge = self._loop_edge
        usual, now = (np.bincount(edge, values, edge.max() + 1)[edge] - values for values in (rate, last.counts))
        going_on = np.where(usual > 0, np.minimum(now / np.maximum(usual, 1e-9), 1.0), 0.0)
        self._silence = np.where(free, self._silence + rate * going_on / CLUSTERED, 0.0)
        gained = np.where(self._other >= 0, last.counts[self._other], 0.0)
        self._past = np.where(still, self._past + gained, 0.0)
        self._between = np.where(still, self._between, 0.5 ** (1.0 / QUEUE_BINS) * self._between + last.counts)
        take = told & (self._silence < 2.0) & ~(still & (self._past > 1.0))
        keep = 0.5 ** (1.0 / USUAL_BINS)
        self._usual = np.where(take, keep * self._usual + last.counts, self._usual)
        self._usual_bins = np.where(take, keep * self._usual_bins + 1.0, self._usual_bins)
        self._others = np.where(take, keep * self._others + gained, self._others)

    def _alone(self, measured: Floats, believed: Bools) -> Floats:
        """(D,) log-likelihood ratio of counting none of those that passed the other loop of the lane.

        Beta-binomial: which share of them passes both is learnt from the time before. Those are taken off by whom the
        other lanes that are believed counted more at one end of the edge than at the other: they changed lanes.
        """
        other = self._other
        covered = self._bins[-1].highest > 0.0
        between = np.where(covered, self._room, np.where(self._stop, 1.0, np.minimum(self._between, self._room)))
        past = self._past - between - np.maximum(self._changed_lanes(measured, believed), 0.0)
        past = np.maximum(np.where(other >= 0, past, 0.0), 0.0) / PAIRED
        both = np.minimum(self._usual, self._others)
        a, b = both + STAYED, self._others - both + CHANGED
        told: Floats = betaln(a, b) - betaln(a, b + past)
        return np.where(covered, told / QUEUED, told)

    def _changed_lanes(self, measured: Floats, believed: Bools) -> Floats:
        """(D,) by how many vehicles more the other lanes of a loop's edge counted at its end than at the other end.

        Only lanes with two loops that are believed tell.
        """
        both = believed & (self._other >= 0) & believed[self._other]
        gained = np.where(both, measured - measured[self._other], 0.0)
        total = np.zeros((2, int(self._loop_edge.max(initial=-1)) + 1))
        np.add.at(total, (self._stop.astype(np.int32), self._loop_edge), gained)
        changed: Floats = total[self._stop.astype(np.int32), self._loop_edge] - gained
        return changed

    def _judge(self, no_witness: Bools) -> None:
        window = _Bin.sum(self._bins)
        window_s = float(len(self._bins) * BIN_S)
        told = self._balance.usable & (window.heard_s >= 0.5 * window_s)
        if not told.any():
            return
        measured = np.where(told, window.counts / np.maximum(window.heard_s, 1.0), 0.0) * window_s
        self._listen(told)
        known = self.excluded | (told & (self._usual >= FEWEST))
        share = min((LIARS + self.excluded.sum()) / (LIARS + HONEST + known.sum()), MOST_LIARS)
        lies = math.log(share / (1.0 - share))  # log-odds of a lie before anything is known of a loop
        unseen, pulses, twice, red = singles = self.witnesses.passages, *self._events.kinds
        for kind in singles:
            kind.trust *= TRUST_KEPT
        single = [kind.odds for kind in singles]
        own, vouched = np.maximum(single, 0.0).sum(axis=0), unseen.trust
        doubtful = (own + self._silence + lies > 0.0) | no_witness | self.excluded
        # the word of the other loop of the lane: if that one lies, all this proves nothing
        other = np.where(self._other >= 0, self._other, 0)
        alive = self._bins[-1].lowest < self._bins[-1].highest
        ways = np.exp(-pulses.trust - twice.trust) + np.exp(-vouched - red.trust) + ~alive
        word = np.log1p(np.exp(-(own + self._silence + np.log(ways / 3.0) + lies)[other]))
        word = np.where((self._other >= 0) & ~no_witness[other] & ~self.excluded[other], word, 0.0)
        alone = np.minimum(self._alone(measured, told & ~doubtful), word)
        stranded = np.minimum(self._stranded, word)
        frozen = told & (window.counts == 0) & (window.lowest == window.highest)
        unheard = doubtful | (frozen & (alone + own > 1.0))
        expected, innovation = self._balance.innovations(measured, told, ~unheard, window_s / (BIN_S * BINS))
        expected, self.innovation = np.nan_to_num(expected), np.nan_to_num(innovation)
        off = np.abs(measured - expected) > WRONG_FRAC * np.maximum(measured, expected)
        self.innovation = np.where(off & ~no_witness, self.innovation, np.clip(self.innovation, -CLEAR, CLEAR))
        told_off = np.minimum(np.maximum(np.abs(self.innovation) - 1.0, 0.0) ** 2 / 2.0, MOST_OFF)
        by_others = np.maximum(np.maximum(self._silence, alone) + stranded + told_off - vouched, 0.0)
        odds = own + by_others + lies
        self._far = np.where(told & (np.abs(self.innovation) > FAR_OFF) & (vouched < 1.0), self._far + 1, 0)
        convicted = told & ((odds >= SURE) | (self._far >= TWICE_FAR))
        clear = told & (odds < 0.0) & ~frozen & (np.abs(self.innovation) < CLEAR)
        self._clear = np.where(clear, self._clear + 1, 0).astype(np.int32)
        parts = np.array([*single, self._silence, alone, stranded, told_off])
        for d in np.flatnonzero(convicted).tolist():
            hourly = 3600.0 / window_s
            self.excluded[d] = True
            state = "covered" if window.highest[d] > 0 else "free"
            reasons = (
                f"did not notice {unseen.seen_odd[d]} of the last {unseen.seen[d]} vehicles reported to pass it",
                f"counted nobody {pulses.seen_odd[d]} of the last {pulses.seen[d]} times it was covered",
                f"counted two at once {twice.seen_odd[d]} of the last {twice.seen[d]} times it counted",
                f"{red.seen_odd[d]} of its last {red.seen[d]} counts came at red",
                "has fallen silent while the other loops of its edge count on",
                f"always {state} while {self._past[d]:.0f} vehicles passed the other loop of its lane",
                "always covered before an empty stop line",
                f"counts {measured[d] * hourly:.0f} an hour where the loops around it tell "
                f"{expected[d] * hourly:.0f} ({self.innovation[d]:+.1f} sd)",
            )
            tells = [k for k in np.argsort(-parts[:, d], kind="stable").tolist() if parts[k, d] >= WORTH_TELLING]
            self._reason[d] = "; ".join(reasons[k] for k in tells[:2] or [len(reasons) - 1])
        self.excluded &= self._clear < PARDON


class _Events:
    """Single events at every loop (D,): times covered, counts of two at once, counts at red."""

    def __init__(self, stop: Bools, ends_frac: Floats) -> None:
        """Which are stop loops, and which share of the vehicles of a loop's edge goes no further."""
        count = len(stop)
        self._is_stop, self._ends_frac = stop, ends_frac
        self._pulses, self._twice, self._red = (OddEvents(count, *law) for law in (PULSE, TWICE, RED))
        self.kinds = self._pulses, self._twice, self._red
        self._covered, self._counted = np.zeros(count, np.bool_), np.zeros(count, np.bool_)
        self._came_at_red = np.zeros(count, np.bool_)
        self._empty_s = np.full(count, -1, np.int64)  # when a time covered without a count ended, -1 none such
        self.dry_s = np.zeros(count, np.int32)  # covered without a count
        self.free_s = np.zeros(count, np.int32)

    def forget(self) -> None:
        self._covered[:] = self._counted[:] = False
        self._empty_s[:] = -1
        self.dry_s[:] = self.free_s[:] = 0

    def step(self, second: int, batch: CountBatch, rows: Ints, at_red: Bools) -> None:
        """Take the reports `rows` of a second. at_red (D,): its lane has been shut for a while."""
        rows = rows[batch.interval_s[rows] <= QUICK_S]
        timely = np.abs(batch.measured_at_s[rows] - second) < 1.0
        late = batch.detector[rows[~timely]][batch.count[rows[~timely]] > 0]
        self._empty_s[late] = -1
        self._counted[late] = True
        rows = rows[timely]
        d, first = np.unique(batch.detector[rows], return_index=True)
        n, on = batch.count[rows][first], (batch.occupancy[rows][first] > 0.0) | (batch.count[rows][first] > 0)
        ripe = np.flatnonzero((self._empty_s >= 0) & (self._empty_s <= second - LATE_S)).astype(np.int32)
        self._pulses.note(ripe, np.ones(len(ripe), np.bool_), LIED_PULSE)
        self._empty_s[ripe] = -1
        ended = d[~on & self._covered[d]]
        counted = ended[self._counted[ended]]
        self._pulses.note(counted, np.zeros(len(counted), np.bool_), LIED_PULSE)
        self._empty_s[ended[~self._counted[ended]]] = second
        began = d[on & ~self._covered[d]]
        self._counted[began], self._came_at_red[began] = False, at_red[began]
        self._covered[d] = on
        counting = d[n > 0]
        self._counted[counting] = True
        self._twice.note(counting, n[n > 0] > 1, LIED_TWICE)
        stop = counting[self._is_stop[counting] & (self.dry_s[counting] < STOOD_S)]
        self._red.note(stop, self._came_at_red[stop] & at_red[stop], LIED_RED, at_least_frac=self._ends_frac[stop])
        self._came_at_red[counting] = at_red[counting]  # whoever follows on its heels
        self.dry_s[d] = np.where(on & (n == 0), self.dry_s[d] + 1, 0)
        self.free_s[d] = np.where(on, 0, self.free_s[d] + 1)


class _Bin(NamedTuple):
    """What every loop (D,) told in half a minute, or in several."""

    counts: Floats
    heard_s: Floats
    lowest: Floats  # occupancy
    highest: Floats

    @staticmethod
    def empty(count: int) -> _Bin:
        return _Bin(np.zeros(count), np.zeros(count), np.ones(count), np.zeros(count))

    @staticmethod
    def sum(bins: Sequence[_Bin]) -> _Bin:
        counts, heard_s, lowest, highest = zip(*bins, strict=True)
        return _Bin(np.sum(counts, axis=0), np.sum(heard_s, axis=0), np.min(lowest, axis=0), np.max(highest, axis=0))

    def add(self, batch: CountBatch, rows: Ints) -> None:
        d, span_s = batch.detector[rows], batch.interval_s[rows]
        np.add.at(self.counts, d, batch.count[rows])
        np.add.at(self.heard_s, d, span_s)
        quick = span_s <= QUICK_S
        np.minimum.at(self.lowest, d[quick], batch.occupancy[rows][quick])
        np.maximum.at(self.highest, d[quick], batch.occupancy[rows][quick])


class _Balance:
    """The unknowns and the equations that tie them, and their robust fit to counts."""

    def __init__(
        self, network: Network, lane: Ints, stop: Bools, share: Floats, expected_vps: Floats, window_s: float
    ) -> None:
        lanes, moves = network.lanes, network.movements
        near = np.zeros(len(network.edges.ids), np.bool_)
        near[lanes.edge[lane]] = True
        use = lanes.motor & near[lanes.edge]
        number = np.full(len(lanes.ids), -1, np.int64)
        number[use] = np.arange(int(use.sum()))
        self._unknowns = 2 * int(use.sum())  # begin of lane k: 2 number, end: 2 number + 1
        self._guess = np.full(self._unknowns, np.nan)
        rows: list[_Row] = []
        for edge in np.flatnonzero(near).tolist():
            own = [x for x in range(*network.edges.first_lane[edge : edge + 2].tolist()) if use[x]]
            begins, ends = [2 * int(number[x]) for x in own], [2 * int(number[x]) + 1 for x in own]
            many = len(own)
            rows.append((begins + ends, [1.0] * many + [-1.0] * many, STORED_VEH * many**0.5, 0.05))
            rows += [
                ([b, e], [1.0, -1.0], STORED_VEH, CHANGED_SHARE if many > 1 else 0.05)
                for b, e in zip(begins, ends, strict=True)
            ]
            feeding = np.flatnonzero(np.isin(moves.to_lane, own))
            if len(feeding) and (number[moves.from_lane[feeding]] >= 0).all():
                from_ends = (2 * number[moves.from_lane[feeding]] + 1).tolist()
                rows.append((begins + from_ends, [1.0] * many + (-share[feeding]).tolist(), STORED_VEH, 0.15))
            self._guess[begins + ends] = expected_vps[edge] * window_s / max(1, many)
        places = [(i, u, f) for i, (us, fs, _, _) in enumerate(rows) for u, f in zip(us, fs, strict=True)]
        table = np.array(places, np.float64).reshape(-1, 3)
        at = table[:, 0].astype(np.int64), table[:, 1].astype(np.int64)
        self._ties = sparse.csr_matrix((table[:, 2], at), (len(rows), self._unknowns))
        self._sizes = abs(self._ties) / 2.0
        self._tie_sd, self._tie_share = np.array([r[2] for r in rows]), np.array([r[3] for r in rows])
        self.of = np.maximum(2 * number[lane] + stop, 0)
        self.usable: Bools = number[lane] >= 0

    def innovations(self, counts: Floats, told: Bools, trusted: Bools, span: float) -> tuple[Floats, Floats]:
        """What all others expect each loop to have counted, and how far off its count is, in sd, (D,) each.

        trusted (D,): the others are left out of the fit. span: length of the window as a share of that of the guess.
        NaN where a loop has told nothing.
        """
        rows = np.flatnonzero(told)
        of, value, least = self.of[rows], counts[rows], 1e-6
        believed = trusted[rows]
        pick = sparse.csr_matrix((np.ones(len(rows)), (np.arange(len(rows)), of)), (len(rows), self._unknowns))
        typical = float(np.median(value[believed])) if believed.any() else 1.0
        start = np.where(np.isfinite(self._guess), self._guess * span, typical)
        loose = np.where(np.isfinite(self._guess), 0.5 * start + 5.0, 2.0 * typical + 10.0)
        fit, weight = start, np.where(believed, 1.0, least)
        tie_weight = np.ones(len(self._tie_sd))
        equations = sparse.vstack([pick, self._ties]).tocsr()
        for round_ in range(ROUNDS):
            sd = np.hypot(COUNT_SD_VEH, COUNT_SD_SHARE * fit[of])
            tie_sd = np.hypot(self._tie_sd, self._tie_share * (self._sizes @ fit))
            if round_:
                width = TUKEY * max(1.0, 3.0 - round_ / 3.0)  # wide at first, so that the guess judges nobody
                off = np.abs(value - fit[of]) / sd
                weight = np.where(believed, np.maximum((1.0 - np.minimum(off / width, 1.0) ** 2) ** 2, least), least)
                strain = np.abs(self._ties @ fit) / tie_sd
                tie_weight = np.minimum(1.0, HUBER / np.maximum(strain, 1e-9))
            w = np.concatenate([weight / sd**2, tie_weight / tie_sd**2])
            right = equations.T @ (w * np.concatenate([value, np.zeros(len(tie_sd))])) + start / loose**2
            factors = factorise(equations.T @ sparse.diags(w) @ equations + sparse.diags(1.0 / loose**2))
            fit = np.maximum(factors.solve(right), 0.0)
        variance = inverse_diagonal(factors)[of]
        part = np.minimum(weight / sd**2 * variance, 0.999)  # a count's own part in its fit
        alone = (fit[of] - part * value) / (1.0 - part)  # the fit without it (Cook and Weisberg 1982, 2.2)
        spread = np.sqrt(
            np.hypot(COUNT_SD_VEH, COUNT_SD_SHARE * np.maximum(alone, 0.0)) ** 2 + variance / (1.0 - part)
        )
        expected, innovation = np.full(len(told), np.nan), np.full(len(told), np.nan)
        expected[rows], innovation[rows] = np.maximum(alone, 0.0), (value - alone) / spread
        return expected, innovation
