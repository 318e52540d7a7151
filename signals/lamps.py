"""What lamps showed: the memory that a proof of safety and a controller start from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from networks.graph import Floats

GREEN = "Gg"
YELLOW = "yY"


@dataclass(frozen=True, slots=True)
class LampRecord:
    """The lamps of one signal at `at_s`, with enough past to judge any next state.

    `since_s[k]`: when link k took its present colour class (green / yellow / red); G and g are one class.
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
        """First sight of a signal: every lamp is taken to have stood long enough for any minimum."""
        count = len(state)
        green = np.array([c in GREEN for c in state])
        return LampRecord(
            at_s,
            state,
            np.full(count, -np.inf),
            np.full(count, -np.inf),
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
    return "green" if lamp in GREEN else "yellow" if lamp in YELLOW else "red"
