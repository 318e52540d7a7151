"""What lamps showed: the memory that a proof of safety and a controller start from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from networks.graph import Floats

GREEN = "Gg"
YELLOW = "yY"
FREE = "soO"  # stop-then-go arrow, switched off


@dataclass(frozen=True, slots=True)
class LampRecord:
    """The lamps of one signal at `at_s`, with enough past to judge any next state.

    `since_s[k]`: when link k took its present colour class (green / yellow / red / free); G and g are one class, and
    so are s, o and O. Since before the first sight: -inf, but a red counts from the first sight.
    `green_from_s[k]`, `green_until_s[k]`: begin and end of its latest green (`green_until_s` = inf while green);
    -inf where it has not been green yet.
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
        green = np.array([c in GREEN for c in state], np.bool_)
        red = np.array([_colour(c) == "red" for c in state], np.bool_)
        return LampRecord(
            at_s,
            state,
            np.where(red, at_s, -np.inf),
            np.full(len(state), -np.inf),
            np.where(green, np.inf, -np.inf),
        )

    def then(self, state: str, at_s: float) -> LampRecord:
        """The record after the lamps change to (or stay in) `state` at `at_s`."""
        since, begin, end = self.since_s.copy(), self.green_from_s.copy(), self.green_until_s.copy()
        for k, (old, new) in enumerate(zip(self.state, state, strict=True)):
            if _colour(old) == _colour(new):
                continue
            since[k] = at_s
            if old in GREEN:
                end[k] = at_s
            if new in GREEN:
                begin[k], end[k] = at_s, np.inf
        return LampRecord(at_s, state, since, begin, end)


def _colour(lamp: str) -> str:
    return "green" if lamp in GREEN else "yellow" if lamp in YELLOW else "free" if lamp in FREE else "red"
