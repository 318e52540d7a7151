"""Looks at the lamps in the street and nothing else, and counts what breaks the rules.

`LampWatch` judges by the very rules of the proof. `Bystander` restates, without them, what an outside referee of
signal control checks at the lamps, so that a mistake in the proof cannot hide itself.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from networks.graph import Signal
from signals.lamps import GREEN, OFF, YELLOW, LampRecord
from signals.safety import Violation, find_change_violations

MOST_KEPT = 100


class LampWatch:
    """Follows the lamps of all signals, as a referee would who sees nothing else.

    Judged at every change: yellow lost or short, minimum green, intergreen and pedestrian clearance, conflicts. What
    the shipped programme does by itself is the authority's own affair, conflicts excepted.
    """

    def __init__(self, signals: Sequence[Signal]) -> None:
        self._signals = signals
        self._records: list[LampRecord | None] = [None] * len(signals)
        self.counts: Counter[str] = Counter()
        self.violations: list[Violation] = []  # the first MOST_KEPT

    @property
    def total(self) -> int:
        return self.counts.total()

    def look(self, now_s: float, signal_index: int, state: str, *, shipped: bool = False) -> None:
        """See the lamps of one signal; `shipped`: its own programme is in force."""
        record = self._records[signal_index]
        if record is None:
            self._records[signal_index] = LampRecord.start(state, now_s)
            return
        if record.state == state:
            return
        for violation in find_change_violations(self._signals[signal_index], record, state, now_s):
            if shipped and violation.rule != "conflict":
                continue
            self.counts[violation.rule] += 1
            if len(self.violations) < MOST_KEPT:
                self.violations.append(violation)
        self._records[signal_index] = record.then(state, now_s)


class Bystander:
    """The lamps of one signal, judged as the referee of the benchmarks does, and on two points more.

    As there: a green that ends has its full yellow, no green is shorter than `min_green_s`, and no two foes are open
    (green or yellow) together unless a shipped phase opens them together. Besides: a link starts only when the
    intergreen after every conflicting green has passed, and no link that a shipped phase serves stays red for more
    than `longest_red_s`. Differences below half a second are forgiven.
    """

    TOLERANCE_S = 0.5

    def __init__(self, signal: Signal, *, min_green_s: float = 5.0, longest_red_s: float = math.inf) -> None:
        self.counts: Counter[str] = Counter()
        self.examples: list[str] = []  # the first few
        self.longest_red_s = 0.0
        self.switches = 0
        count = signal.link_count
        phases = [p.state for programme in signal.programmes for p in programme.phases]
        shown = np.array([[c in GREEN + YELLOW for c in p[:count]] for p in phases])
        together = np.einsum("pi,pj->ij", shown, shown) > 0
        unlit = np.array([[c in OFF for c in p[:count]] for p in phases])
        self._unlit_beside = np.einsum("pi,pj->ij", unlit, shown) > 0
        apart = (signal.foes | signal.foes.T) & ~together
        self._foes = [[int(j) for j in np.flatnonzero(row)] for row in apart]
        clear_s = np.where(signal.pedestrian[:, None], signal.pedestrian_clearance_s[:, None], signal.intergreen_s)
        keep_s = np.maximum(clear_s, signal.intergreen_s)
        self._before = [[(int(i), float(keep_s[i, j])) for i in np.flatnonzero(apart[:, j])] for j in range(count)]
        self._serves = [
            any(p[k] in GREEN for p in phases) and bool(signal.pedestrian[k] or signal.link_movements[k])
            for k in range(count)
        ]
        self._yellow_s, self._min_green_s, self._longest_red_s = signal.yellow_s, min_green_s, longest_red_s
        self._state = ""
        self._green_s = [-math.inf] * count  # begin of the latest green seen to begin
        self._yellow_from_s = [-math.inf] * count
        self._closed_s = [-math.inf] * count  # end of the latest green
        self._red_s = [math.inf] * count  # begin of the present red, inf: not red
        self._sound: set[str] = set()  # states known to hold no open foes

    def look(self, now_s: float, state: str, *, shipped: bool = False) -> None:
        """See the lamps; `shipped`: the signal's own programme runs, and answers for all but conflicts."""
        before = self._state
        if state == before:
            return
        self._state = state
        if not before:
            self._red_s = [now_s if c in "rRuU" else math.inf for c in state]
            return
        if state not in self._sound:
            self._judge_foes(now_s, state)
        for k, (old, new) in enumerate(zip(before, state, strict=True)):
            if old != new:
                self._judge_lamp(now_s, k, old, new, shipped)
        for k, (old, new) in enumerate(zip(before, state, strict=True)):
            if new in GREEN and old not in GREEN:
                self._judge_start(now_s, k, state, shipped)
        self.switches += 1

    def _judge_foes(self, now_s: float, state: str) -> None:
        lit = [k for k, c in enumerate(state) if c in GREEN or c in YELLOW]
        pairs = [(a, b) for a in lit for b in self._foes[a] if a < b and b in lit]
        if pairs:
            self._note("conflict", now_s, f"{pairs[:3]} in {state}")
        else:
            self._sound.add(state)

    def _judge_lamp(self, now_s: float, k: int, old: str, new: str, shipped: bool) -> None:
        if old in GREEN and new not in GREEN:
            self._closed_s[k] = now_s
            green_s = now_s - self._green_s[k]
            if green_s < self._min_green_s - self.TOLERANCE_S and not shipped:
                self._note("min green", now_s, f"link {k} {green_s:.0f} s")
            if new not in YELLOW and not shipped:
                self._note("yellow", now_s, f"link {k} from {old} to {new}")
            self._yellow_from_s[k] = now_s
        elif old in YELLOW and new not in YELLOW and not shipped:
            yellow_s = now_s - self._yellow_from_s[k]
            if yellow_s < self._yellow_s - self.TOLERANCE_S:
                self._note("yellow", now_s, f"link {k} {yellow_s:.0f} s of yellow")
        if old in OFF and new not in OFF:
            self._closed_s[k] = now_s
        red = new in "rRuU"
        if red and old not in "rRuU":
            self._red_s[k] = now_s
        elif not red and self._red_s[k] < math.inf:
            self._judge_red(now_s, k)
            self._red_s[k] = math.inf

    def _judge_start(self, now_s: float, k: int, state: str, shipped: bool) -> None:
        self._green_s[k] = now_s
        if shipped:
            return
        for i, keep_s in self._before[k]:
            passed_s = now_s - self._closed_s[i]
            unlit = state[i] in OFF
            early = not self._unlit_beside[i, k] if unlit else passed_s < keep_s - self.TOLERANCE_S
            if early:
                self._note("intergreen", now_s, f"link {i} to {k} {passed_s:.0f} s")

    def _judge_red(self, now_s: float, k: int) -> None:
        red_s = now_s - self._red_s[k]
        if self._serves[k] and red_s > self.longest_red_s:
            self.longest_red_s = red_s
        if self._serves[k] and red_s > self._longest_red_s:
            self._note("max red", now_s, f"link {k} {red_s:.0f} s")

    def finish(self, now_s: float) -> None:
        """The watch ends: reds still standing are judged too."""
        for k, since_s in enumerate(self._red_s):
            if since_s < math.inf:
                self._judge_red(now_s, k)

    def _note(self, rule: str, now_s: float, text: str) -> None:
        self.counts[rule] += 1
        if len(self.examples) < 6:
            self.examples.append(f"{rule} t={now_s:.0f} {text}")
