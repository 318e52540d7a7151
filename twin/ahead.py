"""What is known of the hours to come: closures and limits of the control centre, rain that is forecast."""

from __future__ import annotations

import numpy as np

from networks.batches import Batches, ControlNotice
from networks.city import CityFolder
from networks.graph import PASSENGER, Network
from scenarios.announced import Announced, Shower, SlowEdge
from scenarios.outlook import Outlook, foresee
from scenarios.prior import Prior

LEAST_RAIN_MM_H = 0.5  # less changes nothing that could be measured


class Ahead:
    """Remembers notices and weather forecasts; a newer one of the same name or hour replaces the older.

    Closed lanes of an edge that stays open are not foreseen: the mesoscopic model knows no lanes.
    """

    def __init__(self, folder: CityFolder, network: Network, prior: Prior) -> None:
        self._folder, self._network, self._prior = folder, network, prior
        self._notices: dict[str, ControlNotice] = {}
        self._showers: dict[float, Shower] = {}

    def note(self, batches: Batches) -> None:
        for notice in batches.notices:
            self._notices[notice.id] = notice
        weather = batches.weather
        coming = np.isfinite(weather.forecast_until_s)
        for begin_s, end_s, rain in zip(
            weather.forecast_from_s[coming], weather.forecast_until_s[coming], weather.rain_mm_h[coming], strict=True
        ):
            self._showers[float(begin_s)] = Shower(float(rain), float(begin_s), float(end_s))

    def announced(self, now_s: float) -> Announced:
        """What is to come or going on. Forgets what is over."""
        self._notices = {name: n for name, n in self._notices.items() if n.end_s > now_s}
        self._showers = {begin: s for begin, s in self._showers.items() if s.end_s > now_s}
        edges = [slow for notice in self._notices.values() if (slow := self._slow_edge(notice)) is not None]
        showers = [s for s in self._showers.values() if s.rain_mm_h >= LEAST_RAIN_MM_H]
        return Announced(tuple(sorted(edges)), tuple(sorted(showers)))

    def foresee(self, announced: Announced) -> Outlook:
        """Takes as long as a mesoscopic run of the city. Raises CityError or ProcessError when that fails."""
        return foresee(self._folder, self._network, self._prior, announced)

    def _slow_edge(self, notice: ControlNotice) -> SlowEdge | None:
        lanes = self._network.lanes
        if notice.lanes:
            of_edge = np.flatnonzero((lanes.edge == notice.edge) & ((lanes.allowed & PASSENGER) > 0))
            if not set(of_edge.tolist()) <= set(notice.lanes):
                return None
        elif not np.isnan(notice.speed_limit_mps):
            return SlowEdge(notice.edge, float(notice.speed_limit_mps), notice.begin_s, notice.end_s)
        return SlowEdge(notice.edge, 0.0, notice.begin_s, notice.end_s)
