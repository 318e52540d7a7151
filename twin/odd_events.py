"""How often something odd happens at each loop, and whether oftener than where loops are honest. See `OddEvents`."""

from __future__ import annotations

import numpy as np

from networks.graph import Bools, Floats, Ints

LOWEST, HIGHEST = -1.0, 14.0  # bounds of the sum: a lie that begins, or ends, shows soon
MOST_TOLD = 4.5  # by one event
MOST_TRUST = 3.0
TRUST_KEPT = 0.84  # of it after half a minute
REMEMBERED = 100.0  # events
MOST_SURE = 0.98


class OddEvents:
    """A sequential test of every loop on events of which few are odd at an honest one.

    Each event adds a log-likelihood ratio of a lie against the truth to a cumulative sum (Page 1954, Biometrika 41).
    Places differ: the share of odd events at an honest loop is Beta distributed and learnt from its own past, so that
    an event is as probable as the beta-binomial law says. What is usual at a place, or comes in one burst, therefore
    tells little, however often it comes.
    """

    def __init__(self, count: int, odd: float, usual: float) -> None:
        """odd, usual: parameters of the Beta law, in events."""
        self._odd, self._usual = np.full(count, odd), np.full(count, usual)
        self.odds = np.zeros(count)  # log-likelihood ratio since it was last lowest
        self.trust = np.zeros(count)  # ratio of the truth against a lie, of lately
        self.seen_odd, self.seen = np.zeros(count, np.int32), np.zeros(count, np.int32)  # events since then

    def note(
        self, loops: Ints, odd: Bools, lied_frac: Floats | float, *, at_least_frac: Floats | float = 0.0
    ) -> None:
        """One event each at some loops (N,), none twice.

        lied_frac (N,): share that were odd if the loop lied. at_least_frac: share that are odd everywhere just now.
        """
        a, b = self._odd[loops], self._usual[loops]
        honest = np.clip(a / (a + b), at_least_frac, MOST_SURE)
        lied = np.clip(lied_frac, honest, MOST_SURE)
        told = np.where(odd, np.log(lied / honest), np.log((1.0 - lied) / (1.0 - honest)))
        told = np.minimum(told, MOST_TOLD)
        afresh = self.odds[loops] <= 0.0
        self.seen_odd[loops] = np.where(afresh, 0, self.seen_odd[loops]) + odd
        self.seen[loops] = np.where(afresh, 0, self.seen[loops]) + 1
        self.odds[loops] = np.clip(self.odds[loops] + told, LOWEST, HIGHEST)
        self.trust[loops] = np.clip(self.trust[loops] - told, 0.0, MOST_TRUST)
        keep = np.minimum(1.0, REMEMBERED / (a + b))
        self._odd[loops], self._usual[loops] = a * keep + odd, b * keep + ~odd
