"""Which day of the week a date is lived like: public holidays like a Sunday, weekends that are worked like workdays.

Known in advance, years ahead, for the countries of the package `holidays`; for China with the State Council's yearly
arrangement, which moves days off and makes up for them at weekends. A holiday on which a city has worked before is
no free day there: the recordings of earlier years say so.
"""

from __future__ import annotations

import difflib
import unicodedata
from datetime import date
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from forecasting.series import DAY_S, CitySeries, Float32s, Rows, weekday
from networks.errors import InputError
from networks.graph import Floats

_MONDAY, _FRIDAY, _SATURDAY, _SUNDAY = 0, 4, 5, 6
_EPOCH = date(1970, 1, 1).toordinal()
_FARTHEST_DEG = 1.0  # a city lies near a known place
_SAME_NAME = 0.8  # likeness from which on two spellings of a state mean the same


def country_of(series: CitySeries) -> str:
    """What the series says of its country, or else where its places lie; "" unknown."""
    if said := str(series.meta.get("country", "")):
        return said
    lat, lon = (series.attributes.get(name, np.full(1, np.nan)) for name in ("lat", "lon"))
    known = np.isfinite(lat) & np.isfinite(lon)
    if not known.any():
        return ""
    return _country_at(float(np.median(lat[known])), float(np.median(lon[known])))


def check_country(country: str) -> None:
    """Raises InputError for a code that nothing is known of; "" is none."""
    if country:
        _days(country, 2025, 2025)


def lived_weekday(start_s: Rows, country: str, worked: frozenset[str] = frozenset()) -> NDArray[np.int64]:
    """0 = Monday .. 6 = Sunday of local wall times (T,); `country` "" knows no holidays.

    Else an ISO 3166 code, of a country ("CN") or of a part of one ("DE-HE"). `worked`: names of holidays that are
    lived as usual. Raises InputError for an unknown country, or for times beyond the calendar.
    """
    plain = weekday(start_s)
    if not country or not len(start_s):
        return plain
    day, row = np.unique(start_s // DAY_S, return_inverse=True)
    if day[0] + _EPOCH < date.min.toordinal() or day[-1] + _EPOCH > date.max.toordinal():
        raise InputError(f"t: {start_s.min()} to {start_s.max()} are no seconds since 1970: beyond the calendar")
    dates = [date.fromordinal(int(d) + _EPOCH) for d in day]
    free, at_work = _days(country, dates[0].year, dates[-1].year)
    lived = plain.copy()
    lived[np.array([free.get(d, "") not in {"", *worked} for d in dates])[row]] = _SUNDAY
    moved = np.array([d in at_work for d in dates])[row]
    lived[moved & (plain == _SATURDAY)] = _FRIDAY
    lived[moved & (plain == _SUNDAY)] = _MONDAY
    return lived


def worked_holidays(values: Float32s, start_s: Rows, country: str) -> frozenset[str]:
    """Names of holidays on which the places (T, N) behaved more as on workdays than as at weekends."""
    if not country or not len(start_s):
        return frozenset()
    plain, lived = weekday(start_s), lived_weekday(start_s, country)
    free = (lived != plain) & (plain < _SATURDAY)
    if not free.any():
        return frozenset()
    with np.errstate(invalid="ignore"):
        known = np.isfinite(values)
        whole = np.where(known, values, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    time = start_s % DAY_S
    at = np.unique(time, return_inverse=True)[1]
    heard = known.any(axis=1)

    def curve(rows: NDArray[np.bool_]) -> Floats:
        count = np.bincount(at[rows], minlength=at.max() + 1)
        total = np.bincount(at[rows], whole[rows], minlength=at.max() + 1)
        mean: Floats = np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)
        return mean

    as_usual, as_weekend = curve(heard & (lived < _SATURDAY)), curve(heard & ~free & (lived >= _SATURDAY))
    day = start_s // DAY_S
    speaks: dict[str, float] = {}  # how much nearer to a weekend than to a workday
    for number in np.unique(day[free & heard]).tolist():
        rows = (day == number) & heard
        off = np.abs(whole[rows] - as_usual[at[rows]]) - np.abs(whole[rows] - as_weekend[at[rows]])
        off = off[np.isfinite(off)]
        when = date.fromordinal(number + _EPOCH)
        name = _days(country, when.year, when.year)[0].get(when, "")
        speaks[name] = speaks.get(name, 0.0) + float(off.sum())
    return frozenset(name for name, nearer in speaks.items() if nearer < 0)


@lru_cache(maxsize=64)
def _days(country: str, first_year: int, last_year: int) -> tuple[dict[date, str], frozenset[date]]:
    """Days off with their names, and weekend days at work."""
    import holidays  # a sixth of a second, where a country is known

    code, _, part = country.partition("-")
    try:
        found = holidays.country_holidays(code, subdiv=part or None, years=range(first_year, last_year + 1))
    except NotImplementedError as unknown:
        raise InputError(f"country: {country!r}: {unknown}") from unknown
    return dict(found), frozenset(getattr(found, "weekend_workdays", ()))


@lru_cache(maxsize=256)
def _country_at(lat: float, lon: float) -> str:
    """The code of the country, with that of its part where both packages mean the same by its name."""
    import holidays
    import reverse_geocode  # half a second, for series with coordinates alone

    place = reverse_geocode.get((lat, lon))
    if max(abs(place["latitude"] - lat), abs(place["longitude"] - lon)) > _FARTHEST_DEG:
        return ""
    code, state = place["country_code"], _spelt(place.get("state", "")).removeprefix("state of ")
    try:
        parts = holidays.country_holidays(code).get_subdivision_aliases()
    except NotImplementedError:
        return ""
    names = {_spelt(name): part for part, said in parts.items() for name in said}
    like = difflib.get_close_matches(state, names, 1, _SAME_NAME)
    return f"{code}-{names[like[0]]}" if like else code


def _spelt(name: str) -> str:
    """Without accents and capitals."""
    return "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c)).lower()
