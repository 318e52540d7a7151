"""An independent look at the lamps in the street: counts what breaks the rules while plans of ours are in force."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from networks.graph import Signal
from signals.lamps import LampRecord
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

    def record(self, signal_index: int) -> LampRecord | None:
        return self._records[signal_index]
