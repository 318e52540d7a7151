"""The history of a run -> `Recording`: what was known at the time, never what came to be known later.

A row is closed when its step ends: of fused states those count that had been made by then, of loop readings those
that had arrived (`available_at_s`) soon after, however early they were measured. So a history that goes on changes no
row that it already has, and windows cut from the rows know nothing of their future.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np

from forecasting.recording import UNITS, Recording
from forecasting.series import DAY_S, Float32s, Rows
from forecasting.wall_time import find_zone, to_wall_s
from networks.errors import InputError
from twin.archive import Archive, open_store
from twin.store import list_open, list_segments

_STEPS_AT_ONCE = 24
_MARGIN_FRAC = 0.25  # of a step that may lack states at its start and at its end
_KMH, _VPH = 3.6, 3600.0
LATENESS_S = 30.0


class Places(StrEnum):
    """Whose readings are taken from a history."""

    EDGES = "edges"  # the fused state
    DETECTORS = "detectors"  # loops as they reported


@dataclass(frozen=True, slots=True)
class Cut:
    """How rows are cut from a history."""

    step_s: int = 300
    until_s: float = math.inf  # UTC epoch: rows that were closed by then
    lateness_s: float = (
        LATENESS_S  # a loop reading may arrive so long after the end of its step; then its row is closed
    )
    time_zone: str = ""  # of the local wall time; "": UTC


def holds_history(folder: Path) -> bool:
    return folder.is_dir() and bool(list_segments(folder) or list_open(folder))


def read_history(folder: Path, places: Places, ids: Sequence[str] | None, cut: Cut) -> Recording:
    """Flow and speed of edges or detectors on steps of a run. `ids`: their names in order, None: not known.

    Raises InputError when the history holds no whole step, or is of another city.
    """
    if not 0 < cut.step_s <= DAY_S:
        raise InputError(f"step: {cut.step_s} s is not between 1 s and a day")
    with open_store(folder) as archive:
        read = _edges if places is Places.EDGES else _detectors
        start_s, flow, speed = read(archive, cut, len(ids) if ids is not None else None)
    if not len(start_s):
        raise InputError(f"{folder}: holds no whole step of {cut.step_s} s of {places}")
    if ids is None:
        ids = [str(k) for k in range(flow.shape[1])]
    wall_s, kept = to_wall_s(start_s, find_zone(cut.time_zone or "UTC"))
    return Recording(
        name=folder.name, places=tuple(ids), start_s=wall_s[kept], step_s=cut.step_s,
        channels={"flow": flow[kept], "speed": speed[kept]}, target="flow", units=UNITS,
        time_zone=cut.time_zone or "UTC", source=f"{folder} (history of a run, {places})",
    )  # fmt: skip


def _edges(archive: Archive, cut: Cut, count: int | None) -> tuple[Rows, Float32s, Float32s]:
    """Means of the fused states of each step, where they reach over all of it."""
    now_s = archive.query("select now_s from states order by now_s")["now_s"].to_numpy()
    step = np.floor(now_s / cut.step_s).astype(np.int64)
    found, first, number = np.unique(step, return_index=True, return_counts=True)
    begin_s, margin_s = found * cut.step_s, _MARGIN_FRAC * cut.step_s
    reached = now_s[first + number - 1]
    whole = (now_s[first] <= begin_s + margin_s) & (reached >= begin_s + cut.step_s - margin_s)
    whole &= (begin_s + cut.step_s <= cut.until_s) & (begin_s + cut.step_s <= _newest_s(archive))
    found = found[whole]
    parts: list[tuple[Float32s, Float32s]] = []
    runs = np.split(found, np.flatnonzero(np.diff(found) != 1) + 1)
    for wanted in (run[k : k + _STEPS_AT_ONCE] for run in runs for k in range(0, len(run), _STEPS_AT_ONCE)):
        from_s = float(wanted[0] * cut.step_s)
        history = archive.history(float((wanted[-1] + 1) * cut.step_s), from_s=from_s, step_s=cut.step_s)
        if count is not None and history.flow_vps.shape[1] != count:
            raise InputError(f"the history is of another city: {history.flow_vps.shape[1]} edges, not {count}")
        known = [
            np.where(history.valid, values * unit, np.nan).astype(np.float32)
            for values, unit in ((history.flow_vps, _VPH), (history.speed_mps, _KMH))
        ]
        parts.append((known[0], known[1]))
    if not parts:
        return found, np.zeros((0, 0), np.float32), np.zeros((0, 0), np.float32)
    return found * cut.step_s, np.concatenate([f for f, _ in parts]), np.concatenate([s for _, s in parts])


def _detectors(archive: Archive, cut: Cut, count: int | None) -> tuple[Rows, Float32s, Float32s]:
    """Loop intervals by the step in which their middle lies; at least half of a step has to be counted."""
    rows = archive.query(
        "with placed as (select *, floor((measured_at_s - interval_s / 2) / $1)::bigint as step from counts) "
        "select step, detector, sum(count) * 3600 / sum(interval_s) as flow, "
        "3.6 * sum(count * speed_mps) filter (where count > 0 and not isnan(speed_mps)) "
        "/ sum(count) filter (where count > 0 and not isnan(speed_mps)) as speed from placed "
        "where available_at_s <= (step + 1) * $1 + $2 and (step + 1) * $1 + $2 <= $3 "
        "group by step, detector having sum(interval_s) >= $1 / 2 order by step, detector",
        [float(cut.step_s), cut.lateness_s, min(cut.until_s, _newest_s(archive))],
    )
    step, detector = rows["step"].to_numpy(), rows["detector"].to_numpy()
    if count is not None and len(detector) and detector.max() >= count:
        raise InputError(f"the history is of another city: it has a detector {detector.max()}, the city has {count}")
    found, row = np.unique(step, return_inverse=True)
    width = count if count is not None else int(detector.max(initial=-1)) + 1
    flow, speed = (np.full((len(found), width), np.nan, np.float32) for _ in range(2))
    flow[row, detector] = rows["flow"].to_numpy()
    speed[row, detector] = rows["speed"].to_numpy()
    return found * cut.step_s, flow, speed


def _newest_s(archive: Archive) -> float:
    """The time up to which the history reaches."""
    newest = archive.query("select max(now_s) as newest from cycles")["newest"].to_pylist()[0]
    return -math.inf if newest is None else float(newest)
