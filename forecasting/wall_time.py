"""Instants as local wall time, counted like epoch seconds: the clock by which people live and drive."""

from __future__ import annotations

from datetime import timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import pandas as pd

from forecasting.series import Rows
from networks.errors import InputError
from networks.graph import Bools


def find_zone(name: str) -> tzinfo:
    """The zone of a name of the IANA data base ("Asia/Shanghai") or an offset ("+08:00"). Raises InputError."""
    if name[:1] in ("+", "-"):
        hours, _, minutes = name[1:].partition(":")
        if hours.isdigit() and minutes.isdigit() and int(hours) < 24 and int(minutes) < 60:
            offset = timedelta(hours=int(hours), minutes=int(minutes))
            return timezone(-offset if name[0] == "-" else offset)
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as unknown:
        raise InputError(f"time zone: {name!r} is neither a zone such as Asia/Shanghai nor an offset") from unknown


def to_wall_s(instant_s: Rows, zone: tzinfo) -> tuple[Rows, Bools]:
    """Ascending UTC epoch seconds (T,) as wall time, and which to keep: an hour that autumn repeats, once."""
    local = pd.to_datetime(instant_s, unit="s", utc=True).tz_convert(zone).tz_localize(None)
    wall_s = local.to_numpy().astype("datetime64[s]").astype(np.int64)
    newest_s = np.maximum.accumulate(wall_s)
    kept: Bools = np.concatenate([np.ones(min(len(wall_s), 1), np.bool_), wall_s[1:] > newest_s[:-1]])
    return wall_s, kept
