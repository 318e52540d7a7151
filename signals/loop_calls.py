"""Calls for green that the loops before stop lines place, and who therefore need not be opened by the clock.

A loop that is covered while its lane has red places a call, which stands until the lane has got green: the locking
memory of NEMA TS 2 controllers. A loop that is silent, or that nobody has covered for long, may be broken and vouches
for nothing: as with the "no activity" watch of such controllers its links are taken to be wanted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from networks.batches import CountBatch, SignalStateBatch
from networks.city import Detector
from networks.graph import Bools, Ints, Network
from networks.pieces import join_pieces
from signals.lamps import GREEN, RED

FRESH_S = 3.0  # a loop heard no longer ago is alive
ACTIVE_S = 900.0  # ... if it has been covered no longer ago


class LoopCalls:
    """Follows loops and lamps second by second and says which links of the signals nobody waits at.

    Only links all of whose lanes have a stop loop are vouched for. Upstream loops place calls as well, so that one
    broken stop loop does not make a lane forgotten.
    """

    def __init__(self, network: Network, detectors: Sequence[Detector]) -> None:
        pieces, moves = join_pieces(network), network.movements
        counts = [signal.link_count for signal in network.signals]
        self._first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        links_of: defaultdict[int, list[int]] = defaultdict(list)
        for m in np.flatnonzero(moves.signal >= 0).tolist():
            links_of[int(moves.from_lane[m])].append(int(self._first[moves.signal[m]] + moves.link[m]))
        lanes = [-1 if pieces.parting[d.lane] else int(pieces.line[d.lane]) for d in detectors]
        pairs = np.array(
            [(i, k, d.role == "stop") for i, d in enumerate(detectors) for k in links_of[lanes[i]]], np.int64
        ).reshape(-1, 3)
        self._loop, self._link, at_line = pairs[:, 0], pairs[:, 1], pairs[:, 2] > 0
        self._stop_loop, self._stop_link = self._loop[at_line], self._link[at_line]
        bare = set(links_of) - {lane for lane, d in zip(lanes, detectors, strict=True) if d.role == "stop"}
        self._watched = np.zeros(self._first[-1], np.bool_)
        self._watched[[k for links in links_of.values() for k in links]] = True
        self._watched[[k for lane in bare for k in links_of[lane]]] = False
        self._heard_s, self._covered_s = np.full((2, len(detectors)), -np.inf)
        self._called = np.ones(self._first[-1], np.bool_)  # of what was before, nobody knows
        self._red = np.zeros(self._first[-1], np.bool_)
        self._states = [""] * len(counts)
        self._reported_s = [-np.inf] * len(counts)

    def note_lamps(self, signal: int, state: str) -> None:
        """What a signal shows from now on. A green answers the calls of its links."""
        if state == self._states[signal] or len(state) != self._first[signal + 1] - self._first[signal]:
            return
        self._states[signal] = state
        own = slice(self._first[signal], self._first[signal + 1])
        self._red[own] = [lamp == RED for lamp in state]
        self._called[own] &= [lamp not in GREEN for lamp in state]

    def note_loops(self, loops: Ints, covered: Bools, at_s: float) -> None:
        """What some loops saw in the second that ended at `at_s`, under the lamps noted last.

        loops    (N,) index of the detector
        covered  (N,) somebody was on it
        """
        self._heard_s[loops] = np.maximum(self._heard_s[loops], at_s)
        self._covered_s[loops[covered]] = np.maximum(self._covered_s[loops[covered]], at_s)
        now = np.zeros(len(self._heard_s), np.bool_)
        now[loops[covered]] = True
        self._called[self._link[now[self._loop] & self._red[self._link]]] = True

    def note(self, counts: CountBatch, lamps: SignalStateBatch) -> None:
        """Reports of some seconds. Lamps are told of as they begin to show, loops when their second is over.

        Lamps older than the newest known of their signal are passed over: a green of before answers no call of now.
        """
        moments = np.unique(np.concatenate([counts.measured_at_s, lamps.measured_at_s]))
        for at_s in moments.tolist():
            rows = counts.measured_at_s == at_s
            if rows.any():
                self.note_loops(counts.detector[rows], counts.occupancy[rows] > 0.0, at_s)
            for row in np.flatnonzero(lamps.measured_at_s == at_s).tolist():
                signal = int(lamps.signal[row])
                if at_s >= self._reported_s[signal]:
                    self._reported_s[signal] = at_s
                    self.note_lamps(signal, lamps.state[row])

    def unwanted(self, now_s: float, distrusted: Bools | None = None) -> Iterator[tuple[int, Bools]]:
        """Signals some of whose links (K,) nobody waits at, and these. `distrusted` (D,): loops that seem to lie."""
        alive = (self._heard_s >= now_s - FRESH_S) & (self._covered_s >= now_s - ACTIVE_S)
        if distrusted is not None:
            alive &= ~distrusted
        free = self._watched & self._red & ~self._called
        free[self._stop_link[~alive[self._stop_loop]]] = False
        for signal in np.unique(np.searchsorted(self._first, np.flatnonzero(free), side="right") - 1).tolist():
            yield signal, free[self._first[signal] : self._first[signal + 1]]
