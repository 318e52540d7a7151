"""Space-mean speed of every edge over the last minutes, from all that tell of it. See `EdgeSpeeds`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from networks.graph import Bools, Floats, Ints, Network

MEMORY_S = 150.0  # longer than a signal cycle, else the speed told hangs on when one asks
FREE_FRAC, FREE_ERROR = 0.8, 1.0  # of the limit, where nothing at all is known
DRIVERS_FRAC = 0.2  # of the limit: by how much the speeds of drivers of one edge differ, half of it free
MIRROR_ERROR, PROFILE_ERROR = 0.1, 0.4  # the same, of means
COUNTED_ERROR, UNCOUNTED_ERROR, SEEN_ERROR = 0.06, 0.25, 0.07
LEAST_SPREAD = 0.1  # of the largest: among drivers who all stand, or all drive freely
ROUNDS = 3  # in which the mean and the errors that hang on it are found
STRICT = 2.0  # weight of the whole network's disagreement in that of one edge, in sources
HONEST_SOURCES = 20.0  # agreed as stated before any was heard
FAR = 25.0  # squared disagreement beyond which one source tells no more about errors
SHARED, SHARED_LISTS = 1.65, 2.1  # of the variance: sources share errors, lists and vehicles seen alone even more


class EdgeSpeeds:
    """Pools what the lists hold, vehicles seen, and the mirror or the prior, each weighted by its error.

    Errors of a mean and the spread among drivers are largest on edges that are driven half freely: of vehicles that
    either stand or drive freely, a share v / limit drives, and the variance of speeds is v (limit - v). Both hang on
    the mean that is asked for, so that they are found in turns.

    How far the sources lie apart says how honest the errors are: the variance of each edge is scaled by the
    chi-square of its own sources, drawn to that of all edges (Birge 1932 for one edge; the weight is that of an
    inverse-gamma prior of the scale).
    """

    def __init__(self, network: Network) -> None:
        edges = network.edges
        self._edge, self._count = network.lanes.edge, len(edges.ids)
        self._length_m, self._limit_mps = edges.length_m, np.maximum(edges.speed_limit_mps, 0.1)
        # metres driven and vehicle-seconds, of those listed and those seen
        self._listed_m, self._listed_s = np.zeros(self._count), np.zeros(self._count)
        self._seen_m, self._seen_s = np.zeros(self._count), np.zeros(self._count)

    def fade(self, seconds: int) -> None:
        keep = np.exp(-seconds / MEMORY_S)
        for total in (self._listed_m, self._listed_s, self._seen_m, self._seen_s):
            total *= keep

    def step(self, vehicles: Floats, moving_mps: Floats, seen: tuple[Ints, Floats]) -> None:
        """One second: vehicles listed on each lane (L,), the sum of their speeds, and (lane, speed) of those seen."""
        self.fade(1)
        lane, speed_mps = seen
        self._listed_m += np.bincount(self._edge, moving_mps, self._count)
        self._listed_s += np.bincount(self._edge, vehicles, self._count)
        self._seen_m += np.bincount(self._edge[lane], speed_mps, self._count)
        self._seen_s += np.bincount(self._edge[lane], minlength=self._count)

    def note_travel(self, edge: Ints, seconds: Floats, metres: Floats) -> None:
        """Vehicles (N,) took so long for so many metres of their edges, within the last minutes."""
        np.add.at(self._seen_m, edge, metres)
        np.add.at(self._seen_s, edge, seconds)

    def answer(
        self, counted: Bools, mirror: tuple[Floats, Floats, float] | None, profile_mps: Floats
    ) -> tuple[Floats, Floats]:
        """Speed (E,), m/s, and its variance.

        counted: loops count everybody on the edge. mirror: its speed, the vehicle-seconds behind it, and by what its
        age raises the variance. profile_mps: what the prior expects, NaN where it knows nothing.
        """
        told = [
            (self._listed_m, self._listed_s, np.where(counted, COUNTED_ERROR, UNCOUNTED_ERROR)),
            (self._seen_m, self._seen_s, np.full(self._count, SEEN_ERROR)),
        ]
        usual_mps = profile_mps
        if mirror is not None:
            speed_mps, seconds, older = mirror
            told.append((speed_mps * seconds, seconds, np.full(self._count, MIRROR_ERROR * older**0.5)))
            usual_mps = np.where(seconds >= 1.0, np.nan, profile_mps)
        value, variance, apart, sources = self._pool(told, usual_mps)
        overall = (apart.sum() + HONEST_SOURCES) / (sources.sum() + HONEST_SOURCES)
        shared = np.where(sources > 0, SHARED if mirror is not None else SHARED_LISTS, 1.0)
        return value, variance * shared * (STRICT * overall + apart) / (STRICT + sources)

    def _pool(
        self, told: Sequence[tuple[Floats, Floats, Floats]], usual_mps: Floats
    ) -> tuple[Floats, Floats, Floats, Floats]:
        """Mean and variance (E,), the chi-square of the sources about the mean and how many there are beyond one."""
        limit = self._limit_mps
        means = [(np.where(s > 0.5, m / np.maximum(s, 0.5), np.nan), s, error) for m, s, error in told]
        value = 0.5 * limit
        for _ in range(ROUNDS):
            free = np.clip(value / limit, 0.0, 1.0)
            unit = limit**2 * (4.0 * free * (1.0 - free) + LEAST_SPREAD)
            dwell_s = np.clip(self._length_m / np.maximum(value, 1.0), 1.0, 2.0 * MEMORY_S)
            pool = [
                (mean, unit * (error**2 + DRIVERS_FRAC**2 * dwell_s / np.maximum(s, 1e-3)))
                for mean, s, error in means
            ]
            pool.append((usual_mps, unit * PROFILE_ERROR**2))
            weighted, certainty = FREE_FRAC / (FREE_ERROR**2 * limit), 1.0 / (FREE_ERROR * limit) ** 2
            for mean, variance in pool:
                known = np.isfinite(mean)
                weighted = weighted + np.where(known, mean, 0.0) / variance
                certainty = certainty + known / variance
            value = weighted / certainty
        apart, sources = np.zeros(self._count), np.zeros(self._count)
        for mean, variance in pool:
            known = np.isfinite(mean)
            apart += np.where(known, np.minimum((np.where(known, mean, 0.0) - value) ** 2 / variance, FAR), 0.0)
            sources += known
        return value, 1.0 / certainty, apart, np.maximum(sources - 1.0, 0.0)
