"""Many days of counts at a city's loops: the day that is usual, and what a day so far says about its next hour.

A city folder holds `loops.csv` (loop_id, edge; where there is a column `confidence`, only rows saying `high` count)
and `loop_counts*.csv` or `.csv.gz` (date, hour, loop_id, count): vehicles of that hour of local time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import numpy as np

from networks.errors import InputError
from networks.graph import Floats, Ints, Network
from networks.readers.table import read_rows

HOURS = 24
DAY_TYPES = ("weekday", "Saturday", "Sunday")
# More than a lane can pass is a fault of the loop: base saturation flow of streets (HCM 2016, ch. 19), and base
# capacity of motorways (ch. 12), told apart by the speed limit.
STREET_VPH_PER_LANE, MOTORWAY_VPH_PER_LANE = 1900.0, 2400.0
STREET_MPS = 70.0 / 3.6
FEW = 10.0  # vehicles added before ratios are taken, so that the small hours say little


@dataclass(frozen=True, slots=True)
class LoopDays:
    """Counts of D days at L loops, each on an edge of its own; NaN where a loop did not report."""

    days: tuple[date, ...]
    edge: Ints  # (L,)
    count: Floats  # (D, 24, L) vehicles in the hour
    refused: int = 0  # counts left out as more than the lanes can pass

    def only(self, loops: Ints) -> LoopDays:
        """The same days as if there were no other loops."""
        return replace(self, edge=self.edge[loops], count=self.count[:, :, loops])

    def row(self, day: date) -> int:
        """Raises InputError for a day without counts."""
        if day not in self.days:
            raise InputError(f"day {day}: there are no counts; they run from {self.days[0]} to {self.days[-1]}")
        return self.days.index(day)

    def usual(self, day: date) -> Floats:
        """(24, L) the median over the other days of the same type; NaN where there is none."""
        return _median(self.count[self._like(day)])

    def usual_of(self, kind: str) -> Floats:
        """(24, L) the same over all days of a type. Raises InputError when there is none."""
        rows = [n for n, day in enumerate(self.days) if day_type(day) == kind]
        if not rows:
            raise InputError(f"day type {kind!r}: no such day has counts; types are {', '.join(DAY_TYPES)}")
        return _median(self.count[rows])

    def busier(self, day: date, hour: int) -> Floats:
        """(L,) factors by which an hour will differ from the usual, as known at its begin.

        They follow from other days and from the hour before: by how much the whole city and by how much each loop
        was off the usual, each carried over as far as it was on other days (a slope of first-order autoregression).
        Loops that do not report today go with the city.
        """
        usual = self.usual(day)
        if hour == 0:
            return np.ones(len(self.edge))
        before, now = (self._off(usual, self.count[:, h], h) for h in (hour - 1, hour))
        others = self._like(day)
        city_slope = _slope(before[0][others], now[0][others])
        loop_slope = _slope(before[1][others], now[1][others])
        today = self.row(day)
        off = city_slope * before[0][today] + loop_slope * np.nan_to_num(before[1][today])
        factor: Floats = np.exp(np.nan_to_num(off))
        return factor

    def _like(self, day: date) -> list[int]:
        rows = [n for n, other in enumerate(self.days) if other != day and day_type(other) == day_type(day)]
        if not rows:
            raise InputError(f"day {day}: no other {day_type(day)} has counts")
        return rows

    @staticmethod
    def _off(usual: Floats, count: Floats, hour: int) -> tuple[Floats, Floats]:
        """Logarithmic distance from the usual: (D,) of the city, (D, L) of each loop beyond that."""
        off = np.log((count + FEW) / (usual[hour] + FEW))
        known = np.isfinite(off)
        city = np.array([np.median(row[k]) if k.any() else np.nan for row, k in zip(off, known, strict=True)])
        return city, off - city[:, None]


def day_type(day: date) -> str:
    """Weekday, Saturday or Sunday."""
    return DAY_TYPES[max(0, day.weekday() - 4)]


def _median(count: Floats) -> Floats:
    """(24, L) over days (D, 24, L); NaN where none reported."""
    usual: Floats = np.full(count.shape[1:], np.nan)
    known = np.isfinite(count).any(axis=0)
    usual[known] = np.nanmedian(count[:, known], axis=0)
    return usual


def _slope(before: Floats, now: Floats) -> float:
    """Between 0 and 1, by least absolute-bounded least squares through the origin."""
    use = np.isfinite(before) & np.isfinite(now)
    x, y = np.clip(before[use], -1.0, 1.0), np.clip(now[use], -1.0, 1.0)
    return float(np.clip((x @ y) / max(float(x @ x), 1e-9), 0.0, 1.0))


def read_loop_days(folder: Path, network: Network) -> LoopDays:
    """The loops and counts of a city folder. Of several loops on an edge the first is kept.

    Raises InputError naming file, line and field.
    """
    places: dict[str, int] = {}
    taken: set[int] = set()
    for where, cells in read_rows(folder / "loops.csv", ("loop_id", "edge")):
        if cells["edge"] not in network.edge_index:
            raise InputError(f"{where}: edge: the network has no edge {cells['edge']!r}")
        edge = network.edge_index[cells["edge"]]
        if cells.get("confidence", "high") == "high" and edge not in taken:
            taken.add(edge)
            places[cells["loop_id"]] = edge
    files = sorted(folder.glob("loop_counts*.csv*"))
    if not files:
        raise InputError(f"{folder}: no loop_counts*.csv with the columns date, hour, loop_id, count")
    column = {loop: n for n, loop in enumerate(places)}
    on = list(places.values())
    per_lane = np.where(network.edges.speed_limit_mps[on] <= STREET_MPS, STREET_VPH_PER_LANE, MOTORWAY_VPH_PER_LANE)
    most, refused = per_lane * network.edges.lane_count[on], 0
    found: dict[date, Floats] = {}
    for path in files:
        for where, cells in read_rows(path, ("date", "hour", "loop_id", "count")):
            day, hour, count = (
                _day(cells["date"], where),
                _number(cells, "hour", where),
                _number(cells, "count", where),
            )
            if not 0 <= hour < HOURS or hour != int(hour):
                raise InputError(f"{where}: hour: {cells['hour']!r} is none of 0 to 23")
            loop = column.get(cells["loop_id"])
            if loop is None:
                continue
            refused += count > most[loop]
            if count <= most[loop]:
                found.setdefault(day, np.full((HOURS, len(column)), np.nan))[int(hour), loop] = count
    if not found:
        raise InputError(f"{folder}: no count is of a loop in loops.csv")
    days = tuple(sorted(found))
    return LoopDays(
        days, np.array(list(places.values()), np.int32), np.array([found[day] for day in days]), int(refused)
    )


def _day(text: str, where: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as defect:
        raise InputError(f"{where}: date: {text!r} is no YYYY-MM-DD") from defect


def _number(cells: dict[str, str], name: str, where: str) -> float:
    try:
        value = float(cells[name])
    except ValueError:
        value = np.nan
    if not 0.0 <= value < np.inf:
        raise InputError(f"{where}: {name}: {cells[name]!r} is no number from 0")
    return value
