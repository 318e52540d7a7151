"""One measured quantity at every sensor of a city on a time grid: what all forecasters are fitted on.

Time is local wall time, counted like epoch seconds. On the grid every step has its row, so that the same time on
another day is a whole number of rows away; of a gap of weeks whole weeks are taken out, which keeps the weekday.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from networks.errors import InputError
from networks.graph import Floats

DAY_S = 86400
WEEK_S = 7 * DAY_S
STEPS_IN = STEPS_OUT = 12
WINDOW = STEPS_IN + STEPS_OUT

Float32s = NDArray[np.float32]
Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class CitySeries:
    """A target channel of one network. NaN is missing; rows ascend in time and may skip some."""

    name: str
    quantity: str  # "flow" or "speed"
    values: Float32s  # (T, N) in the unit of the source
    start_s: Rows  # (T,) start of each interval, local wall time
    step_s: int
    edges: NDArray[np.int64]  # (2, L) from -> to; may be empty
    edge_length_m: Float32s  # (L,)
    attributes: Mapping[str, Floats] = field(default_factory=dict)  # (N,) each, NaN unknown
    split: tuple[float, float, float] = (6.0, 2.0, 2.0)
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rows, nodes = self.values.shape
        if len(self.start_s) != rows:
            raise InputError(f"{self.name}: t has {len(self.start_s)} entries, the values have {rows} rows")
        if self.step_s <= 0 or self.step_s > DAY_S:
            raise InputError(f"{self.name}: dt is {self.step_s} s, not between 1 s and a day")
        if rows and (np.diff(self.start_s) <= 0).any():
            raise InputError(
                f"{self.name}: t does not ascend at row {int(np.argmax(np.diff(self.start_s) <= 0)) + 1}"
            )
        if self.edges.size and not 0 <= self.edges.min() <= self.edges.max() < nodes:
            raise InputError(f"{self.name}: edge_index names node {int(self.edges.max())}, there are {nodes}")

    @property
    def nodes(self) -> int:
        return int(self.values.shape[1])

    def place_names(self) -> tuple[str, ...]:
        """As the source calls its places, else their numbers."""
        names = self.meta.get("places")
        return names if isinstance(names, tuple) else tuple(str(k) for k in range(self.nodes))

    def window_starts(self, rows: int = WINDOW) -> Rows:
        """First rows of all runs of so many rows without a gap in time."""
        if len(self.start_s) < rows:
            return np.zeros(0, np.int64)
        spans = self.start_s[rows - 1 :] - self.start_s[: len(self.start_s) - rows + 1]
        return np.flatnonzero(spans == (rows - 1) * self.step_s)

    def split_starts(self) -> tuple[Rows, Rows, Rows]:
        """Window starts of the training, validation and test part, in time order by `split`."""
        starts = self.window_starts()
        first, second = (round(len(starts) * sum(self.split[:k]) / sum(self.split)) for k in (1, 2))
        return starts[:first], starts[first:second], starts[second:]

    def training_rows(self) -> int:
        """Rows that a trainer may see: up to the end of the last training window."""
        train = self.split_starts()[0]
        if not len(train):
            raise InputError(f"{self.name}: {len(self.values)} rows hold no training window of {WINDOW} steps")
        return int(train[-1]) + WINDOW

    def fingerprint(self) -> str:
        """SHA-256 of times and values, the first 16 digits."""
        digest = hashlib.sha256(self.start_s.tobytes())
        digest.update(np.ascontiguousarray(self.values).tobytes())
        return digest.hexdigest()[:16]

    def coarser(self, factor: int) -> CitySeries:
        """Means over `factor` steps, aligned to the day; a step with less than half of its readings is missing."""
        step_s = self.step_s * factor
        key = self.start_s // step_s
        coarse, inverse = np.unique(key, return_inverse=True)
        known = np.isfinite(self.values)
        total = np.zeros((len(coarse), self.nodes))
        count = np.zeros((len(coarse), self.nodes))
        np.add.at(total, inverse, np.where(known, self.values, 0.0))
        np.add.at(count, inverse, known)
        with np.errstate(invalid="ignore"):
            values = np.where(count * 2 >= factor, total / np.maximum(count, 1), np.nan).astype(np.float32)
        return CitySeries(
            f"{self.name}@{step_s}", self.quantity, values, coarse * step_s, step_s, self.edges, self.edge_length_m,
            self.attributes, self.split, self.meta,
        )  # fmt: skip

    def finer(self, factor: int, rng: np.random.Generator) -> CitySeries:
        """Counts split over `factor` shorter steps: binomial thinning along the interpolated rate, so that what is
        added is the noise that vehicles arriving at random would show. For flows that count vehicles."""
        rows, nodes = self.values.shape
        step_s = self.step_s // factor
        before = np.vstack([self.values[:1], self.values[:-1]])
        after = np.vstack([self.values[1:], self.values[-1:]])
        fine = np.empty((rows, factor, nodes), np.float32)
        left = np.where(np.isfinite(self.values), np.round(self.values), 0).astype(np.int64)
        at = (np.arange(factor) + 0.5) / factor - 0.5
        rate = np.stack(
            [self.values + (before - self.values) * max(-s, 0) + (after - self.values) * max(s, 0) for s in at]
        )
        rate = np.maximum(np.where(np.isfinite(rate), rate, 1.0), 1e-3)
        for k in range(factor):
            drawn = rng.binomial(left, np.clip(rate[k] / rate[k:].sum(axis=0), 0.0, 1.0))
            fine[:, k] = drawn
            left = left - drawn
        fine = np.where(np.isfinite(self.values)[:, None], fine, np.nan)
        start_s = (self.start_s[:, None] + np.arange(factor) * step_s).ravel()
        return CitySeries(
            f"{self.name}@{step_s}", self.quantity, fine.reshape(-1, nodes).astype(np.float32), start_s, step_s,
            self.edges, self.edge_length_m, self.attributes, self.split, self.meta,
        )  # fmt: skip

    def extended(self, steps: int) -> CitySeries:
        """The same with rows to come, all missing."""
        ahead = self.start_s[-1] + (1 + np.arange(steps)) * self.step_s
        empty = np.full((steps, self.nodes), np.nan, np.float32)
        return CitySeries(
            self.name, self.quantity, np.vstack([self.values, empty]), np.concatenate([self.start_s, ahead]),
            self.step_s, self.edges, self.edge_length_m, self.attributes, self.split, self.meta,
        )  # fmt: skip

    def part(self, first: int, last: int, name: str) -> CitySeries:
        """Rows first..last as a series of its own."""
        return CitySeries(
            name, self.quantity, self.values[first:last], self.start_s[first:last], self.step_s, self.edges,
            self.edge_length_m, self.attributes, self.split, self.meta,
        )  # fmt: skip


def weekday(start_s: Rows) -> NDArray[np.int64]:
    """0 = Monday; 1970-01-01 was a Thursday."""
    return (start_s // DAY_S + 3) % 7
