"""What was measured at the places of one network: several channels on one time grid, and what is known of them.

Readers deliver it, `forecasting.series_folder` keeps it, and a forecaster is fitted on one channel of it, a
`CitySeries`. Times are local wall time, counted like epoch seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forecasting.series import CitySeries, Float32s, Rows
from networks.errors import InputError
from networks.graph import Floats

NO_EDGES: NDArray[np.int64] = np.zeros((2, 0), np.int64)
NO_LENGTHS: Float32s = np.zeros(0, np.float32)
UNITS = {"flow": "veh/h", "speed": "km/h"}


@dataclass(frozen=True, slots=True)
class Recording:
    """Channels of one network. NaN is missing; rows ascend in time and may skip some."""

    name: str
    places: tuple[str, ...]  # (N,)
    start_s: Rows  # (T,) start of each interval, local wall time
    step_s: int
    channels: Mapping[str, Float32s]  # (T, N) each
    target: str  # the channel that is forecast where nobody asks for another
    units: Mapping[str, str] = field(default_factory=dict)  # by channel, "" unknown
    edges: NDArray[np.int64] = field(default_factory=lambda: NO_EDGES)  # (2, L) from -> to
    edge_length_m: Float32s = field(default_factory=lambda: NO_LENGTHS)  # (L,)
    attributes: Mapping[str, Floats] = field(default_factory=dict)  # (N,) each, NaN unknown; lat and lon too
    time_zone: str = ""  # of the wall time: a name of the IANA data base or an offset from UTC, "" unknown
    country: str = ""  # whose holidays are kept there, see `forecasting.free_days`; "" unknown
    licence: str = ""
    source: str = ""
    split: tuple[float, float, float] = (6.0, 2.0, 2.0)

    def __post_init__(self) -> None:
        if len(set(self.places)) < len(self.places):
            twice = next(place for place in self.places if self.places.count(place) > 1)
            raise InputError(f"{self.name}: two places are called {twice!r}")
        for channel, values in self.channels.items():
            if values.shape != (len(self.start_s), len(self.places)):
                wanted = f"{len(self.start_s)} rows of {len(self.places)} places"
                raise InputError(f"{self.name}: channel {channel} is {values.shape}, not {wanted}")
        self.series()

    def series(self, channel: str | None = None) -> CitySeries:
        """One channel, else the target, to fit forecasters on. Raises InputError when there is no such channel."""
        wanted = channel or self.target
        if wanted not in self.channels:
            raise InputError(f"{self.name}: has no channel {wanted!r}, only {', '.join(self.channels)}")
        meta: dict[str, Any] = {"places": self.places, "unit": self.units.get(wanted, "")}
        meta |= {name: said for name in ("country", "licence") if (said := getattr(self, name))}
        return CitySeries(
            name=self.name, quantity="speed" if wanted == "speed" else "flow", values=self.channels[wanted],
            start_s=self.start_s, step_s=self.step_s, edges=self.edges, edge_length_m=self.edge_length_m,
            attributes=self.attributes, split=self.split, meta=meta,
        )  # fmt: skip


def join(parts: Sequence[Recording]) -> Recording:
    """Recordings of other times, other places or both, as one that has the name of the first.

    Raises InputError where two tell of the same place at the same time, or differ in step or time zone.
    """
    first = parts[0]
    if len(parts) == 1:
        return first
    for part in parts[1:]:
        for what, one, other in (
            ("step", f"{first.step_s} s", f"{part.step_s} s"),
            ("time zone", first.time_zone or "unknown", part.time_zone or "unknown"),
        ):
            if one != other:
                raise InputError(f"{part.source}: {what}: {other}, but {one} in {first.source}")
    start_s = np.unique(np.concatenate([part.start_s for part in parts]))
    places = tuple(dict.fromkeys(place for part in parts for place in part.places))
    column = {place: k for k, place in enumerate(places)}
    channels: dict[str, Float32s] = {}
    attributes: dict[str, Floats] = {}
    edges: dict[tuple[int, int], float] = {}
    for part in parts:
        columns = np.array([column[place] for place in part.places])
        at = np.ix_(np.searchsorted(start_s, part.start_s), columns)
        for channel, values in part.channels.items():
            whole = channels.setdefault(channel, np.full((len(start_s), len(places)), np.nan, np.float32))
            clash = np.argwhere(np.isfinite(whole[at]) & np.isfinite(values))
            if len(clash):
                row, place = clash[0]
                when = np.datetime64(int(part.start_s[row]), "s")
                raise InputError(f"{part.source}: {channel} of {part.places[place]} at {when} is there already")
            whole[at] = np.where(np.isfinite(values), values, whole[at])
        for name, numbers in part.attributes.items():
            attributes.setdefault(name, np.full(len(places), np.nan))[columns] = numbers
        ends = columns[part.edges].T.tolist() if part.edges.size else []
        edges |= {(a, b): length for (a, b), length in zip(ends, part.edge_length_m.tolist(), strict=True)}
    if len(start_s) > 1 and np.diff(start_s).min() < first.step_s:
        when = np.datetime64(int(start_s[1:][np.diff(start_s) < first.step_s][0]), "s")
        raise InputError(
            f"{first.name}: t: at {when} one file has a row within a step of {first.step_s} s of another"
        )
    units = {channel: unit for part in reversed(parts) for channel, unit in part.units.items()}
    return replace(
        first, places=places, start_s=start_s, channels=channels, units=units, attributes=attributes,
        edges=np.array(list(edges), np.int64).T if edges else NO_EDGES,
        edge_length_m=np.array(list(edges.values()), np.float32) if edges else NO_LENGTHS,
        source=", ".join(part.source for part in parts),
    )  # fmt: skip
