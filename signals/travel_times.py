"""Edge travel times ahead from a forecast, such that nobody who enters later leaves earlier."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from networks.errors import InputError
from networks.graph import Bools, Floats, Network
from networks.state import Forecast, NetworkState
from signals.guidance_kernels import make_fifo

_CRAWL_MPS = 0.5  # a jam still moves: 1800 m of it an hour


@dataclass(frozen=True, slots=True)
class TravelTimes:
    """Travel times (K, E) at `at_s` (K,): expected, and when speeds are at their 10 % and 90 % quantile."""

    at_s: Floats
    median: Floats
    slow: Floats
    fast: Floats


def travel_times(
    network: Network, free_time_s: Floats, state: NetworkState, forecast: Forecast | None, now_s: float
) -> TravelTimes:
    """Times in the middle of every forecast step; present ones without a forecast; free ones where nothing is known.

    A forecast speed stands for the whole edge, the wait at its end included.
    """
    length_m = network.edges.length_m
    least_s = length_m / np.maximum(network.edges.speed_limit_mps, 1.0)

    def seconds(speed_mps: Floats, valid: Bools) -> Floats:
        travel_s = np.maximum(length_m / np.maximum(speed_mps, _CRAWL_MPS), least_s)
        return np.where(valid, travel_s, free_time_s)

    if forecast is None:
        speed = state.edge_speed_mps
        travel_s = seconds(speed.value, speed.valid)[None]
        return TravelTimes(np.array([now_s]), travel_s, travel_s, travel_s)
    middle_s = forecast.made_at_s + forecast.horizon_s - np.diff(forecast.horizon_s, prepend=0.0) / 2
    at = [nearest_quantile(forecast.quantiles, level) for level in (0.5, 0.1, 0.9)]
    median, slow, fast = (np.ascontiguousarray(seconds(forecast.speed_mps[:, :, q], forecast.valid)) for q in at)
    for travel_s in (median, slow, fast):
        make_fifo(middle_s, travel_s)
    return TravelTimes(middle_s, median, slow, fast)


def nearest_quantile(quantiles: tuple[float, ...], level: float) -> int:
    """Index of the quantile next to a level. Raises InputError when there is none."""
    if not quantiles:
        raise InputError("a forecast without quantiles cannot guide")
    distance = [abs(q - level) for q in quantiles]
    return distance.index(min(distance))
