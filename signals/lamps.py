"""What lamps showed: the memory that a proof of safety and a controller start from."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from networks.graph import Bools, Floats

GREEN = "Gg"
YELLOW = "yY"
RED = "r"
ARROW = "s"  # stop, then go if free: the right-turn arrow beside a red
OFF = "oO"  # flashing yellow, dark: everybody may go and gives way

# Colour class of a letter: what counts as one stretch of time on a lamp.
_CLASS = bytes(
    0 if chr(c) in GREEN else 1 if chr(c) in YELLOW else 2 if chr(c) in ARROW else 3 if chr(c) in OFF else 4
    for c in range(256)
)
_GREEN_CLASS, _OFF_CLASS, _RED_CLASS = 0, 3, 4


@dataclass(frozen=True, slots=True)
class LampRecord:
    """The lamps of one signal at `at_s`, with enough past to judge any next state.

    `since_s[k]`: when link k took its present colour class (green / yellow / red / arrow / off); G and g are one
    class, and so are o and O. Since before the first sight: -inf, but a red counts from the first sight, and not as
    long as detectors vouch that nobody waits (`vouched`).
    `green_from_s[k]`, `green_until_s[k]`: begin and end of its latest green (`green_until_s` = inf while green);
    -inf where it has not been green yet. Traffic also runs while a lamp is off, so that moves `green_until_s` too.
    """

    at_s: float
    state: str
    since_s: Floats  # (K,)
    green_from_s: Floats  # (K,)
    green_until_s: Floats  # (K,)

    @staticmethod
    def start(state: str, at_s: float) -> LampRecord:
        """First sight of a signal: every lamp is taken to have stood long enough for any minimum.

        The longest red is a maximum, so it starts to count here.
        """
        classes = _classes(state)
        runs = (classes == _GREEN_CLASS) | (classes == _OFF_CLASS)
        return LampRecord(
            at_s,
            state,
            np.where(classes == _RED_CLASS, at_s, -np.inf),
            np.full(len(state), -np.inf),
            np.where(runs, np.inf, -np.inf),
        )

    @staticmethod
    def doubtful(state: str, at_s: float) -> LampRecord:
        """The least favourable past: everything lit has just begun, everything closed has just ended."""
        classes = _classes(state)
        green = classes == _GREEN_CLASS
        return LampRecord(
            at_s,
            state,
            np.full(len(state), at_s),
            np.where(green, at_s, -np.inf),
            np.where(green | (classes == _OFF_CLASS), np.inf, at_s),
        )

    def then(self, state: str, at_s: float) -> LampRecord:
        """The record after the lamps change to (or stay in) `state` at `at_s`."""
        if state == self.state:
            return LampRecord(at_s, state, self.since_s, self.green_from_s, self.green_until_s)
        since, begin, end = self.since_s.copy(), self.green_from_s.copy(), self.green_until_s.copy()
        before = self.state.encode("latin-1", "replace").translate(_CLASS)
        after = state.encode("latin-1", "replace").translate(_CLASS)
        for k, (old, new) in enumerate(zip(before, after, strict=True)):
            if old == new:
                continue
            since[k] = at_s
            if old in (_GREEN_CLASS, _OFF_CLASS):
                end[k] = at_s
            if new == _GREEN_CLASS:
                begin[k] = at_s
            if new in (_GREEN_CLASS, _OFF_CLASS):
                end[k] = np.inf
        return LampRecord(at_s, state, since, begin, end)

    def vouched(self, unwanted: Bools, at_s: float) -> LampRecord:
        """The record where detectors vouch that nobody wants some links (K,) at `at_s`: their red counts from there.

        As with a push button: a red is long for whoever waits at it. Nothing but the longest red hangs on it.
        """
        red = _classes(self.state) == _RED_CLASS
        return replace(self, since_s=np.where(red & unwanted, at_s, self.since_s))


def _classes(state: str) -> NDArray[np.uint8]:
    return np.frombuffer(state.encode("latin-1", "replace").translate(_CLASS), np.uint8)
