"""Which loops lie: counts held against what the loops around them say, and against the lamps. See `LoopHealth`."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import sparse

from networks.batches import CountBatch
from networks.city import Detector
from networks.graph import Bools, Floats, Ints, Network
from twin.loop_witnesses import LoopWitnesses
from twin.selected_inverse import factorise, inverse_diagonal

BIN_S, BINS = 30, 10  # counts are compared over five minutes
LEAST_BINS = 4  # two minutes must be heard before anybody is judged
LATELY = 5  # bins: lies that show alone show sooner
SUSPECT, CLEAR = 3.5, 2.0  # innovations, in standard deviations
WRONG_FRAC = 0.25  # a count must also be off by such a share of the larger value
TWICE = 2  # judgements in a row before a loop is left out
PARDON = 10  # clear ones in a row before it is heard again
QUICK_S = 2.0  # reports of longer intervals tell neither of lamps nor of single vehicles
RED_AFTER_S = 4.0  # a count so long after the end of green has no green to come from
RED_LEAST, RED_SHARE = 4.0, 0.35
PULSES_LEAST, FEWEST_A_PULSE = 6.0, 0.7  # vehicles for each time that a loop becomes covered
HONEST_PULSE, LIED_PULSE = 0.97, 0.5  # share of these times that a vehicle is counted; of honest loops 0.985 was seen
MOST_TWICE = 0.25  # of the seconds with any vehicle, those with more than one: nobody follows so closely
FROZEN_BINS, FROZEN_LEAST, MUTE_LEAST = (
    8,
    5.0,
    2.0,
)  # bins without a change, and vehicles that passed the other loop of the lane
CHANGED_FRAC = 0.5  # of them that the other lanes must have gained between the loops, for all to have changed lanes
CONVICTS = 4.7  # log-likelihood ratio of a lie against the truth, of all evidence that shows in single vehicles
SOME_MISSED, FEW_TELL = 3, 3.9  # fewer unnoticed passages tell no more than this: one bad place may make two of them
VOUCHED_FOR = -1.0  # below, vehicles reported to pass were noticed
MOST_OFF = 3.0  # that the innovation adds to it: neighbours may lie
CLUSTERED = 3.0  # variance of counts over that of a Poisson process: platoons and cycles
USUAL_BINS = 10.0  # half-life of a loop's own rate
HONEST_TWICE, LIED_TWICE = 0.03, 0.9  # share of the seconds with any vehicle in which two are counted
ROUNDS = 12
TUKEY, HUBER = 4.685, 1.345  # Beaton and Tukey (1974), Huber (1964): nearly as good as least squares without liars
COUNT_SD_VEH, COUNT_SD_SHARE = 1.5, 0.05  # of an honest count
STORED_VEH = 1.5  # by which the vehicles on a lane differ between begin and end of a window, sd
CHANGED_SHARE = 0.5  # of a lane's vehicles that come or go between its loops where there are other lanes, sd

_Row = tuple[list[int], list[float], float, float]  # unknowns, factors, sd in vehicles, sd as a share of the flow


class LoopHealth:
    """Judges every loop each half minute and says which are to be left out, and why.

    The unknowns are vehicles in five minutes past the begin and the end of every lane near loops. They are tied by
    conservation (what comes onto an edge leaves it, but for a queue; what leaves lanes goes where the turning shares
    say) and, weakly, by the flows expected. They are fitted to all counts at once by iterated least squares with
    Tukey's biweight, so that a count far from what the others agree on loses its weight. Its innovation is what is
    left between it and the fit, in standard deviations. This is bad-data analysis as in state estimation of power
    systems (Abur and Exposito 2004, chapters 5 and 6), with a redescending estimator in place of deleting one by one.

    Some lies show without that, and their loops are left out of the fit (diagnostics of single loops: Chen, Kwon,
    Rice, Skabardonis and Varaiya 2003). At a stop line hardly anybody passes a red light. Every time that a loop
    becomes covered is one vehicle at least, and hardly ever do two pass within a second. One that never changes while
    vehicles pass the other loop of its lane is stuck. Vehicles that report their places pass it unnoticed
    (`LoopWitnesses`), or it falls silent while the other loops of its edge count on: such evidence is added up as a
    log-likelihood ratio, with what the innovation tells, and convicts where each alone is too weak.
    """

    def __init__(self, network: Network, detectors: Sequence[Detector], share: Floats, expected_vps: Floats) -> None:
        """share (M,): turning shares of movements; expected_vps (E,): flows to start from, NaN unknown."""
        self._ids = tuple(d.id for d in detectors)
        count = len(detectors)
        self._stop = np.array([d.role == "stop" for d in detectors], np.bool_)
        self._lane = np.array([d.lane for d in detectors], np.int32)
        self._bins: deque[_Bin] = deque(maxlen=BINS)
        self._bin = _Bin.empty(count)
        self._covered = np.zeros(count, np.bool_)
        self._other = np.full(count, -1, np.int32)  # the other loop of the lane
        for lane in set(self._lane.tolist()):
            pair = np.flatnonzero(self._lane == lane)
            if len(pair) == 2:
                self._other[pair] = pair[::-1]
        self._second = -1
        self._suspect, self._clear = np.zeros(count, np.int32), np.zeros(count, np.int32)
        self._reason = [""] * count
        self._loop_edge = network.lanes.edge[self._lane]
        self._usual, self._usual_bins, self._silence = np.zeros(count), np.zeros(count), np.zeros(count)
        self.excluded: Bools = np.zeros(count, np.bool_)
        self.innovation = np.zeros(count)  # standard deviations, as last judged
        self.witnesses = LoopWitnesses(network, detectors)
        self._balance = _Balance(network, self._lane, self._stop, share, expected_vps, float(BIN_S * BINS))

    def note(self, second: int, batch: CountBatch, rows: Ints, red_s: Floats, stuck: Bools) -> None:
        """Take the reports `rows` as those of this second.

        red_s (L,): for how long a lane has had no link open. stuck (D,): known from elsewhere to be no witness.
        """
        self.witnesses.step(second, batch, rows)
        if len(rows):
            self._bin.add(second, batch, rows, self._covered, self._stop & (red_s[self._lane] > RED_AFTER_S))
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
        self._bin = _Bin.empty(len(self._ids))

    def reasons(self) -> list[str]:
        """One line a loop that is left out."""
        return [f"loop {self._ids[d]}: {self._reason[d]}" for d in np.flatnonzero(self.excluded).tolist()]

    def _quiet(self, told: Bools) -> Floats:
        """(D,) log-likelihood ratio of being stuck at "free".

        That is what a loop would have counted since, by its own rate before and by how the other loops of its edge
        have gone on.
        """
        last = self._bins[-1]
        still = told & (last.counts == 0) & (last.highest == 0.0)  # covered all the time may be a queue
        rate = self._usual / np.maximum(self._usual_bins, 1.0)
        edge = self._loop_edge
        usual, now = (np.bincount(edge, values, edge.max() + 1)[edge] - values for values in (rate, last.counts))
        going_on = np.where(usual > 0, np.minimum(now / np.maximum(usual, 1e-9), 1.0), 0.0)
        self._silence = np.where(still, self._silence + rate * going_on / CLUSTERED, 0.0)
        take = told & (self._silence < CONVICTS / 2.0)
        keep = 0.5 ** (1.0 / USUAL_BINS)
        self._usual = np.where(take, keep * self._usual + last.counts, self._usual)
        self._usual_bins = np.where(take, keep * self._usual_bins + 1.0, self._usual_bins)
        return self._silence

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
        few, many, red = (
            a | b for a, b in zip(window.oddities(), _Bin.sum(self._bins, LATELY).oddities(), strict=True)
        )
        frozen = told & (window.counts == 0) & (window.lowest == window.highest)
        quiet = self._quiet(told)
        unnoticed = np.where(
            self.witnesses.missed < SOME_MISSED, np.minimum(self.witnesses.doubt, FEW_TELL), self.witnesses.doubt
        )
        doubt = np.maximum(unnoticed, 0.0) + quiet + window.odds_of_doubles()
        doubtful = few | many | red | no_witness | (doubt >= CONVICTS / 2.0)
        passed = np.where((self._other >= 0) & ~doubtful[self._other], measured[self._other], 0.0)
        stuck = frozen & (passed >= FROZEN_LEAST) & (len(self._bins) >= FROZEN_BINS)
        stuck &= self._changed_lanes(measured, told & ~doubtful) < CHANGED_FRAC * passed
        stuck &= self.witnesses.doubt > VOUCHED_FOR
        mute = frozen & (passed >= MUTE_LEAST)  # no proof yet, but no witness against its neighbour either
        alone = few | many | red | stuck | (doubt >= CONVICTS)
        unheard = alone | mute | self.excluded | no_witness | (doubt >= CONVICTS / 2.0)
        expected, innovation = self._balance.innovations(measured, told, ~unheard, window_s / (BIN_S * BINS))
        expected, self.innovation = np.nan_to_num(expected), np.nan_to_num(innovation)
        off = np.abs(measured - expected) > WRONG_FRAC * np.maximum(measured, expected)
        self.innovation = np.where(off & ~no_witness, self.innovation, np.clip(self.innovation, -CLEAR, CLEAR))
        wrong = told & (np.abs(self.innovation) > SUSPECT) & (self.witnesses.doubt > VOUCHED_FOR)
        told_off = np.maximum(np.abs(self.innovation) - 1.0, 0.0) ** 2 / 2.0
        together = told & (doubt > 0) & (doubt + np.minimum(told_off, MOST_OFF) >= CONVICTS)
        clear = told & ~alone & ~together & ~frozen & (np.abs(self.innovation) < CLEAR)
        self._suspect = np.where(wrong | alone | together, self._suspect + 1, 0).astype(np.int32)
        self._suspect[told & ((doubt >= CONVICTS) | together)] += TWICE
        self._clear = np.where(clear, self._clear + 1, 0).astype(np.int32)
        for d in np.flatnonzero(self._suspect >= TWICE).tolist():
            hourly = 3600.0 / window_s
            self.excluded[d] = True
            if stuck[d]:
                state = "covered" if window.highest[d] > 0 else "free"
                self._reason[d] = f"always {state} while {passed[d]:.0f} vehicles passed the other loop of its lane"
            elif few[d] or many[d]:
                rate = window.counts[d] / max(1.0, window.pulses[d])
                self._reason[d] = f"counts {rate:.1f} vehicles for each time that it becomes covered"
            elif self.witnesses.doubt[d] >= 2.0:
                unseen, all_ = self.witnesses.missed[d], self.witnesses.seen[d]
                self._reason[d] = f"did not notice {unseen} of the last {all_} vehicles reported to pass it"
            elif quiet[d] > 0:
                self._reason[d] = "has fallen silent while the other loops of its edge count on"
            elif red[d]:
                self._reason[d] = f"{window.at_red[d] / max(1.0, window.timely[d]):.0%} of its counts came at red"
            else:
                self._reason[d] = (
                    f"counts {measured[d] * hourly:.0f} an hour where the loops around it tell "
                    f"{expected[d] * hourly:.0f} ({self.innovation[d]:+.1f} sd)"
                )
        self.excluded &= self._clear < PARDON


class _Bin(NamedTuple):
    """What every loop (D,) told in half a minute, or in several."""

    counts: Floats
    heard_s: Floats
    timely: Floats  # counts second by second that came in their own second; the rest goes by these
    at_red: Floats  # vehicles
    pulses: Floats  # times that it became covered
    counted: Floats  # seconds in which it counted any
    twice: Floats  # seconds in which it counted more than one
    lowest: Floats  # occupancy
    highest: Floats

    @staticmethod
    def empty(count: int) -> _Bin:
        zero = [np.zeros(count) for _ in range(8)]
        return _Bin(zero[0], zero[1], zero[2], zero[3], zero[4], zero[5], zero[6], np.ones(count), zero[7])

    @staticmethod
    def sum(bins: Sequence[_Bin], last: int = BINS) -> _Bin:
        """Of the last few bins together."""
        columns = list(zip(*list(bins)[-last:], strict=True))
        total = [np.sum(column, axis=0) for column in columns[:7]]
        lowest, highest = np.min(columns[7], axis=0), np.max(columns[8], axis=0)
        return _Bin(total[0], total[1], total[2], total[3], total[4], total[5], total[6], lowest, highest)

    def oddities(self) -> tuple[Bools, Bools, Bools]:
        """(D,) too few vehicles for the times covered (late counts count as well); too many at once; at red."""
        counted = np.minimum(self.counts, self.pulses)
        odds = counted * math.log(LIED_PULSE / HONEST_PULSE)
        odds += (self.pulses - counted) * math.log((1.0 - LIED_PULSE) / (1.0 - HONEST_PULSE))
        few = (self.pulses >= PULSES_LEAST) & (self.counts < FEWEST_A_PULSE * self.pulses)
        return (
            few & (odds >= CONVICTS),
            (self.counted >= PULSES_LEAST) & (self.twice > MOST_TWICE * self.counted),
            (self.at_red >= RED_LEAST) & (self.at_red > RED_SHARE * self.timely),
        )

    def odds_of_doubles(self) -> Floats:
        """(D,) log-likelihood ratio of counting twice, not below 0: honest loops seldom count two within a second."""
        odds = self.twice * math.log(LIED_TWICE / HONEST_TWICE)
        odds += (self.counted - self.twice) * math.log((1.0 - LIED_TWICE) / (1.0 - HONEST_TWICE))
        floor: Floats = np.maximum(odds, 0.0)
        return floor

    def add(self, second: int, batch: CountBatch, rows: Ints, covered: Bools, at_red: Bools) -> None:
        """Add reports taken as those of `second`; `covered` (D,) is brought up to date.

        at_red (D,): a count now came at red.
        """
        d, n, span_s = batch.detector[rows], batch.count[rows], batch.interval_s[rows]
        np.add.at(self.counts, d, n)
        np.add.at(self.heard_s, d, span_s)
        quick = span_s <= QUICK_S
        np.minimum.at(self.lowest, d[quick], batch.occupancy[rows][quick])
        np.maximum.at(self.highest, d[quick], batch.occupancy[rows][quick])
        quick &= np.abs(batch.measured_at_s[rows] - second) < 1.0
        d, n, occupancy = d[quick], n[quick], batch.occupancy[rows][quick]
        np.add.at(self.timely, d, n)
        np.add.at(self.at_red, d, n * at_red[d])
        np.add.at(self.pulses, d, (occupancy > 0.0) & ~covered[d])
        np.add.at(self.counted, d, n > 0)
        np.add.at(self.twice, d, n > 1)
        covered[d] = occupancy > 0.0


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
