"""How far each device's clock is off, by when it says that it sent and when that comes in. See `ClockSkews`."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

TRUSTED_S = 1.0
"""A clock off by less is left alone: the way of a message takes as long."""
WIDEST_S = 30.0
"""Beyond this the time sent is no clock's; such frames teach nothing and are judged as they are."""
RECENT = 15  # frames
FEWEST_AHEAD = 3
WINDOW_S, FEWEST_BEHIND = 60.0, 20
MOST_DEVICES = 20_000


@dataclass(slots=True)
class _Device:
    """Differences between time received and time sent: the way of the frame, less what the clock is ahead."""

    recent_s: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))
    window_begin_s: float = math.nan
    count: int = 0
    least_s: float = math.inf  # in this window
    last_count: int = 0
    last_least_s: float = math.inf  # in the window before
    skew_s: float = 0.0


class ClockSkews:
    """Estimates for every device the seconds to add to its times.

    A clock that is ahead shows at once, since nothing comes in before it was sent: the median of the last fifteen
    differences, once three of them are negative beyond `TRUSTED_S`. A clock that is behind looks like a slow way. It
    is believed to be behind by the least difference of the last one to two minutes, from twenty frames on: a backlog
    after a broken line raises most differences but hardly ever all of them for a minute.
    """

    def __init__(self) -> None:
        self._devices: dict[tuple[str, str], _Device] = {}

    def note(self, feed: str, source: str, sent_at_s: float, received_at_s: float) -> float:
        """Take in one frame's times; the seconds to add to this device's times now."""
        way_s = received_at_s - sent_at_s
        device = self._devices.get((feed, source))
        if not abs(way_s) <= WIDEST_S:
            return device.skew_s if device else 0.0
        if device is None:
            if len(self._devices) >= MOST_DEVICES:
                return 0.0
            device = self._devices[feed, source] = _Device()
        device.recent_s.append(way_s)
        _turn_window(device, received_at_s)
        device.count += 1
        device.least_s = min(device.least_s, way_s)
        device.skew_s = _estimate(device)
        return device.skew_s

    @property
    def wrong(self) -> dict[tuple[str, str], float]:
        """Devices, by feed and source, whose times are being corrected, and by how many seconds."""
        return {key: device.skew_s for key, device in self._devices.items() if device.skew_s}


def _turn_window(device: _Device, received_at_s: float) -> None:
    if not received_at_s - device.window_begin_s < WINDOW_S:
        device.last_count, device.last_least_s = device.count, device.least_s
        device.count, device.least_s = 0, math.inf
        device.window_begin_s = received_at_s


def _estimate(device: _Device) -> float:
    ordered = sorted(device.recent_s)
    median_s = ordered[len(ordered) // 2]
    if len(ordered) >= FEWEST_AHEAD and median_s < -TRUSTED_S:
        return median_s
    if device.last_count >= FEWEST_BEHIND:
        least_s = min(device.least_s, device.last_least_s)
        if least_s > TRUSTED_S:
            return least_s
    return 0.0
