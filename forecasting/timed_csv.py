"""CSV files whose rows say when: one column a place (wide), or one row a place and time (long).

    time,D1,D2                       time,place,flow,speed
    2026-01-05T00:00:00,120,88       2026-01-05T00:00:00,D1,120,51.5

Times are ISO 8601 or epoch seconds. Without an offset they are local wall time; with one, and as epoch seconds, they
are instants, told in the time zone that is given, else as they are written (epoch seconds: in UTC). Empty cells and
rows that are not there are missing; a zero is a zero.
"""

from __future__ import annotations

import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from forecasting.recording import UNITS, Recording
from forecasting.series import Float32s, Rows
from forecasting.wall_time import find_zone, to_wall_s
from networks.errors import InputError
from networks.readers.formats import open_maybe_gzip

_TIMES = ("time", "timestamp", "datetime", "date_time", "date")
_PLACES = ("place", "detector", "sensor", "station", "edge")
_DATE = r"\d{4}-\d{2}-\d{2}.*"
_OFFSET = r"\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?\s*(Z|[+-]\d\d(?::?\d\d)?)$"
_EPOCH_S = 1e8, 5e9  # what numbers can be epoch seconds: 1973 to 2128
_HEAD_ROWS = 20


@dataclass(frozen=True, slots=True)
class Layout:
    """Columns of a CSV with times; without a place column every other column is a place."""

    columns: tuple[str, ...]
    time: str
    place: str | None


def find_layout(path: Path) -> Layout | None:
    """How a CSV file is laid out; None: its rows say no times. Raises InputError when it is no CSV."""
    head = _parsed(path, header=None, nrows=_HEAD_ROWS, dtype=str)
    if head.empty:
        raise InputError(f"{path}: is empty")
    columns = tuple("" if pd.isna(name) else str(name).strip() for name in head.iloc[0])
    first = head.iloc[1:, 0].dropna()
    dated = bool(len(first)) and bool(first.str.strip().str.fullmatch(_DATE).all())
    if dated and not columns[0]:  # as pandas writes an index
        columns = (_TIMES[0], *columns[1:])
    named = [name for name in columns if name.lower() in _TIMES]
    if not named and not dated:
        return None
    twice = [name for k, name in enumerate(columns) if name in columns[:k]]
    if twice:
        raise InputError(f"{path} line 1: two columns are called {twice[0]!r}")
    place = next((name for name in columns if name.lower() in _PLACES), None)
    return Layout(columns, named[0] if named else columns[0], place)


def read_timed_csv(
    path: Path, layout: Layout, *, channel: str = "flow", null: float | None = None, time_zone: str = ""
) -> Recording:
    """Read a CSV file with times. `channel`: what the numbers are where no column says it; `null`: the number that
    stands for a missing reading. Raises InputError naming the line and the column."""
    texts = {layout.time: str} | ({layout.place: str} if layout.place else {})
    frame = _parsed(path, header=0, names=list(layout.columns), dtype=texts, index_col=False, skip_blank_lines=False)
    frame.index += 2  # line of the file
    frame = frame.dropna(how="all")
    if frame.empty:
        raise InputError(f"{path}: holds no row beside its header")
    instant_s, zone, shown = _instants(path, frame[layout.time].str.strip(), time_zone)

    def of_column(name: str) -> str:
        return channel if layout.place is None or name.lower() == "value" else name

    numbers: dict[str, Float32s] = {}
    for name in layout.columns:
        if name == "" or name in texts:  # unnamed: numbers of rows
            continue
        column = _numbers(path, frame[name], null, unsigned=of_column(name) in UNITS)
        if column is not None:
            numbers[name] = column
    if not numbers:
        raise InputError(f"{path}: holds no column of numbers beside {' and '.join(texts)}")
    lines = frame.index.to_numpy()
    places: tuple[str, ...]
    if layout.place is None:
        _check_ascending(path, lines, instant_s, "")
        times, row = np.unique(instant_s, return_inverse=True)
        places, channels = tuple(numbers), {channel: np.stack(list(numbers.values()), axis=1)}
    else:
        names = frame[layout.place].str.strip()
        if names.isna().any():
            raise InputError(f"{path} line {names.index[names.isna()][0]}: {layout.place}: is empty")
        number, found = pd.factorize(names)
        by_place = np.argsort(number, kind="stable")
        ends = np.cumsum(np.bincount(number))
        for place, rows in zip(found, np.split(by_place, ends[:-1]), strict=True):
            _check_ascending(path, lines[rows], instant_s[rows], f" of {place}")
        times, row = np.unique(instant_s, return_inverse=True)
        places, channels = tuple(found), {}
        for name, values in numbers.items():
            table = np.full((len(times), len(found)), np.nan, np.float32)
            table[row, number] = values
            channels[of_column(name)] = table
    line = np.empty(len(times), np.int64)
    line[row[::-1]] = lines[::-1]  # the first line of each time
    step_s = _step(path, line, times)
    wall_s, kept = (times, np.ones(len(times), np.bool_)) if zone is None else to_wall_s(times, find_zone(zone))
    target = channel if channel in channels else next(iter(channels))
    return Recording(
        name=path.name.split(".")[0], places=places, start_s=wall_s[kept], step_s=step_s,
        channels={name: values[kept] for name, values in channels.items()}, target=target,
        time_zone=shown, source=str(path),
    )  # fmt: skip


def _parsed(path: Path, **options: Any) -> pd.DataFrame:
    """pandas.read_csv of a plain or gzipped file."""
    try:
        with open_maybe_gzip(path) as stream, warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame: pd.DataFrame = pd.read_csv(stream, encoding="utf-8-sig", low_memory=False, **options)
            return frame
    except pd.errors.EmptyDataError:
        return pd.DataFrame()
    except pd.errors.ParserWarning as defect:
        raise InputError(f"{path}: some row has more fields than the header") from defect
    except (OSError, EOFError, zlib.error, ValueError) as defect:  # a ParserError is a ValueError
        raise InputError(f"{path}: not readable as CSV: {str(defect).strip()}") from defect


def _instants(path: Path, text: pd.Series[str], time_zone: str) -> tuple[Rows, str | None, str]:
    """Seconds of each row, the zone that they are to be told in (None: they are wall time), and the zone's name."""
    where = f"{path} line"
    if text.isna().any():
        raise InputError(f"{where} {text.index[text.isna()][0]}: {text.name}: is empty")
    number, _ = pd.factorize(text)
    seconds, zone, shown = _instants_once(where, text.drop_duplicates(), time_zone)
    return seconds[number], zone, shown


def _instants_once(where: str, text: pd.Series[str], time_zone: str) -> tuple[Rows, str | None, str]:
    """The same of texts that differ; the index holds the line of each."""
    numbers = pd.to_numeric(text, errors="coerce")
    if numbers.notna().all():
        wrong = ~numbers.between(*_EPOCH_S) | (numbers % 1 != 0)
        if wrong.any():
            raise InputError(f"{where} {text.index[wrong][0]}: {text.name}: {text[wrong].iloc[0]} is no epoch second")
        return numbers.to_numpy().astype(np.int64), time_zone or "UTC", time_zone or "UTC"
    offset = text.str.extract(_OFFSET, expand=False)
    mixed = offset.isna() != offset.isna().iloc[0]
    if mixed.any():
        raise InputError(f"{where} {text.index[mixed][0]}: {text.name}: has an offset from UTC or not, unlike before")
    times = pd.to_datetime(text, format="ISO8601", utc=True, errors="coerce")
    if times.isna().any():
        line = text.index[times.isna()][0]
        raise InputError(f"{where} {line}: {text.name}: {text[line]!r} is neither ISO 8601 nor epoch seconds")
    times = times.dt.as_unit("ns")
    broken = times != times.dt.floor("s")
    if broken.any():
        raise InputError(f"{where} {text.index[broken][0]}: {text.name}: is no whole second")
    seconds = times.dt.tz_localize(None).to_numpy().astype("datetime64[s]").astype(np.int64)
    if offset.isna().all():
        return seconds, None, time_zone
    if time_zone:
        return seconds, time_zone, time_zone
    other = offset != offset.iloc[0]
    if other.any():
        line = text.index[other][0]
        raise InputError(f"{where} {line}: {text.name}: another offset than before; a time zone has to be named")
    written = offset.iloc[0]
    zone = "UTC" if written == "Z" else f"{written[:3]}:{written[3:].strip(':') or '00'}"
    return seconds, zone, zone


def _numbers(path: Path, cells: pd.Series[Any], null: float | None, *, unsigned: bool) -> Float32s | None:
    """A column as numbers; None: it holds text alone. `unsigned`: nothing below 0 is possible."""
    numbers = pd.to_numeric(cells, errors="coerce").astype(np.float64)
    wrong = numbers.isna() & cells.notna()
    if wrong.any():
        if not numbers.notna().any():
            return None
        raise InputError(f"{path} line {cells.index[wrong][0]}: {cells.name}: {cells[wrong].iloc[0]!r} is no number")
    if null is not None:
        numbers = numbers.mask(numbers == null)
    impossible = (numbers < (0.0 if unsigned else -np.inf)) | np.isinf(numbers)
    if impossible.any():
        line = cells.index[impossible][0]
        raise InputError(
            f"{path} line {line}: {cells.name}: {cells[line]:g} is no reading (a null rule may say missing)"
        )
    return numbers.to_numpy().astype(np.float32)


def _check_ascending(path: Path, lines: Rows, instant_s: Rows, of: str) -> None:
    steps = np.diff(instant_s)
    if (steps <= 0).any():
        k = int(np.argmax(steps <= 0))
        same = np.flatnonzero(instant_s[: k + 1] == instant_s[k + 1])
        what = f"there already, in line {lines[same[0]]}" if len(same) else "before the time above it"
        raise InputError(
            f"{path} line {lines[k + 1]}: time{of}: {np.datetime64(int(instant_s[k + 1]), 's')} is {what}"
        )


def _step(path: Path, line: Rows, instant_s: Rows) -> int:
    """The shortest time between rows, of which all others have to be multiples."""
    if len(instant_s) < 2:
        raise InputError(f"{path}: time: a single time says nothing of the step")
    gaps = np.diff(instant_s)
    step_s = int(gaps.min())
    odd = gaps % step_s != 0
    if odd.any():
        k = int(np.argmax(odd))
        raise InputError(
            f"{path} line {line[k + 1]}: time: {gaps[k]} s after the time before, with steps of {step_s} s"
        )
    return step_s
