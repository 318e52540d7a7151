"""Series on the disk -> `Recording` and `CitySeries`: our folders, our .npz layout, PEMS0x .npz, METR-LA and PEMS-BAY
.h5, CSV with times and without, and what SUMO writes of edges and loops.

The archives of PEMS03/04/07/08 (Song et al. 2020) and METR-LA/PEMS-BAY (Li et al. 2018) hold no time stamps for every
row: their published first days are used. In them 0 means missing.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from forecasting.recording import NO_EDGES, NO_LENGTHS, Recording
from forecasting.series import CitySeries, Float32s
from forecasting.series_folder import holds_series, read_folder
from forecasting.sumo_output import read_sumo_output
from forecasting.timed_csv import find_layout, read_timed_csv
from networks.errors import InputError

_MISSING = 65535
_FIRST_DAY = {
    "PEMS03": "2018-09-01", "PEMS04": "2018-01-01", "PEMS07": "2017-05-01", "PEMS08": "2016-07-01",
    "METR-LA": "2012-03-01", "PEMS-BAY": "2017-01-01",
}  # fmt: skip
_OTHER_FIRST_DAY = "2020-01-06"  # a Monday
_SPEEDS = ("METR-LA", "PEMS-BAY")
_UNITS = dict.fromkeys(_FIRST_DAY, "veh/5 min") | dict.fromkeys(_SPEEDS, "mph")
_ENDINGS = (".npz", ".h5", ".hdf5", ".csv", ".csv.gz", ".xml", ".xml.gz")


@dataclass(frozen=True, slots=True)
class Unsaid:
    """What is taken where a file does not say it."""

    step_s: int = 300
    channel: str = "flow"  # of a CSV
    null: float | None = None  # the number that means missing in a CSV with times
    time_zone: str = ""  # of the local wall time
    from_s: int = int(np.datetime64(_OTHER_FIRST_DAY, "s").astype(np.int64))  # wall time of SUMO's second 0


def read_series(path: Path, *, step_s: int = 300, channel: str | None = None) -> CitySeries:
    """One channel of a folder or file, by its ending and keys; without `channel` its target. `step_s` is used where
    the file does not say.

    Raises InputError naming the file and the field.
    """
    if _ending(path) == ".npz":
        return _read_npz(path, step_s, channel)
    unsaid = Unsaid(step_s=step_s, channel=channel or "flow")
    return read_recording(path, unsaid).series(channel)


def read_recording(path: Path, unsaid: Unsaid) -> Recording:
    """All channels of a folder or file. Raises InputError naming the file and the field."""
    ending = _ending(path)
    if not ending:
        return read_folder(path)
    if ending == ".npz":
        return _all_channels(path, unsaid.step_s)
    if ending in (".h5", ".hdf5"):
        return _one_channel(path, _read_hdf(path, unsaid.step_s))
    if ending in (".csv", ".csv.gz"):
        layout = find_layout(path)
        if layout is None:
            return _one_channel(path, _read_csv(path, unsaid.step_s), unsaid.channel)
        return read_timed_csv(path, layout, channel=unsaid.channel, null=unsaid.null, time_zone=unsaid.time_zone)
    return replace(read_sumo_output(path, from_s=unsaid.from_s), time_zone=unsaid.time_zone)


def _ending(path: Path) -> str:
    """Of a file; of a folder of ours ""."""
    if path.is_dir():
        if not holds_series(path):
            raise InputError(f"{path}: holds no series: meta.json is missing")
        return ""
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    for ending in _ENDINGS:
        if path.name.endswith(ending):
            return ending
    raise InputError(f"{path}: ending {path.suffix!r} is none of {', '.join(_ENDINGS)}")


def _one_channel(path: Path, series: CitySeries, channel: str = "") -> Recording:
    """A series as a recording with places that are called by their numbers."""
    name = channel or series.quantity
    return Recording(
        name=series.name, places=tuple(str(k) for k in range(series.nodes)), start_s=series.start_s,
        step_s=series.step_s, channels={name: series.values}, target=name,
        units={name: str(series.meta.get("unit", ""))}, split=series.split, source=str(path),
    )  # fmt: skip


def _all_channels(path: Path, step_s: int) -> Recording:
    target = _read_npz(path, step_s, None)
    with np.load(path, allow_pickle=False) as archive:
        if "meta" not in archive.files:
            return _one_channel(path, target)
        wanted = _target(path, archive, target.meta)
        named = {key.removeprefix("x_") for key in archive.files if key.startswith("x_")}
        try:
            places = tuple(str(place) for place in archive["node"]) if "node" in archive.files else ()
        except ValueError:  # names kept as objects: pickles stay closed
            places = ()
    if len(places) != target.nodes or len(set(places)) < len(places):
        places = tuple(str(k) for k in range(target.nodes))
    values = {wanted: target.values}
    values |= {name: _read_npz(path, step_s, name).values for name in sorted(named - {wanted})}
    units = target.meta.get("units", {})
    return Recording(
        name=target.name, places=places, start_s=target.start_s, step_s=target.step_s, channels=values, target=wanted,
        units={name: str(units.get(name, "")) for name in values}, edges=target.edges,
        edge_length_m=target.edge_length_m, attributes=target.attributes, split=target.split,
        country=str(target.meta.get("country", "")), licence=str(target.meta.get("licence", "")),
        source=str(target.meta.get("source", path)),
    )  # fmt: skip


def _read_npz(path: Path, step_s: int, channel: str | None) -> CitySeries:
    try:
        with np.load(path, allow_pickle=False) as archive:
            if "meta" in archive.files:
                return _own_layout(path, archive, channel)
            if "data" in archive.files:
                data = _field(path, archive, "data")
                values = data[..., 0] if data.ndim == 3 else data
                return _anonymous(path, values, step_s)
    except (zipfile.BadZipFile, EOFError, ValueError) as defect:
        raise InputError(f"{path}: not a readable .npz: {defect}") from defect
    raise InputError(f"{path}: has neither 'meta' (our layout) nor 'data' (PEMS0x)")


def _own_layout(path: Path, archive: Any, channel: str | None) -> CitySeries:
    try:
        meta = json.loads(str(_field(path, archive, "meta")))
    except json.JSONDecodeError as defect:
        raise InputError(f"{path}: meta: no JSON: {defect}") from defect
    name = channel or _target(path, archive, meta)
    raw = _field(path, archive, f"x_{name}")
    if raw.ndim != 2:
        raise InputError(f"{path}: x_{name} has {raw.ndim} axes, not 2 (time, node)")
    values = raw.astype(np.float32) * float(_field(path, archive, f"scale_{name}"))
    values[raw == _MISSING] = np.nan
    nodes = raw.shape[1]
    edges = archive["edge_index"].astype(np.int64) if "edge_index" in archive.files else NO_EDGES
    lengths = archive["edge_dist"] if "edge_dist" in archive.files else np.full(edges.shape[1], np.nan)
    attributes = {}
    for key in archive.files:
        if key in ("lat", "lon") or key.startswith("nattr_"):
            try:
                column = archive[key]
            except ValueError:  # names kept as objects: not needed, and pickles stay closed
                continue
            if column.dtype.kind in "fiu" and column.shape == (nodes,):
                attributes[key.removeprefix("nattr_")] = column.astype(np.float64)
    split = meta.get("split", [6, 2, 2])
    if len(split) != 3:
        raise InputError(f"{path}: meta.split has {len(split)} parts, not 3")
    return CitySeries(
        name=path.stem, quantity="speed" if name == "speed" else "flow", values=values.astype(np.float32),
        start_s=_field(path, archive, "t").astype(np.int64), step_s=int(_field(path, archive, "dt")), edges=edges,
        edge_length_m=lengths.astype(np.float32), attributes=attributes,
        split=(float(split[0]), float(split[1]), float(split[2])), meta=meta,
    )  # fmt: skip


def _target(path: Path, archive: Any, meta: Mapping[str, Any]) -> str:
    return str(meta.get("target") or _field(path, archive, "ch")[0])


def _field(path: Path, archive: Any, key: str) -> NDArray[Any]:
    if key not in archive.files:
        raise InputError(f"{path}: has no {key!r}")
    array: NDArray[Any] = archive[key]
    return array


def _read_hdf(path: Path, step_s: int) -> CitySeries:
    try:
        frame = pd.read_hdf(path)
    except ImportError as missing:
        raise InputError(f"{path}: reading .h5 needs the package 'tables' (pip install tables)") from missing
    return _anonymous(path, frame.to_numpy(), step_s)


def _read_csv(path: Path, step_s: int) -> CitySeries:
    """One row a step, one column a place; columns that hold no numbers are left out."""
    values = pd.read_csv(path).select_dtypes("number").to_numpy()
    if not values.size:
        raise InputError(f"{path}: holds no column of numbers")
    return _anonymous(path, values, step_s)


def _anonymous(path: Path, values: NDArray[Any], step_s: int) -> CitySeries:
    """A published set without times: its name gives the first day and the quantity."""
    if values.ndim != 2:
        raise InputError(f"{path}: the values have {values.ndim} axes, not 2 (time, node)")
    key = re.sub(r"^(METR|PEMS)_?(LA|BAY)$", r"\1-\2", path.stem.upper().replace("_", "-"))
    key = {"METRLA": "METR-LA", "PEMSBAY": "PEMS-BAY"}.get(key, key)
    first = int(np.datetime64(_FIRST_DAY.get(key, _OTHER_FIRST_DAY), "s").astype(np.int64))
    numbers: Float32s = values.astype(np.float32)
    numbers[numbers == 0.0] = np.nan
    return CitySeries(
        name=path.stem, quantity="speed" if key in _SPEEDS else "flow", values=numbers,
        start_s=first + np.arange(len(numbers), dtype=np.int64) * step_s, step_s=step_s, edges=NO_EDGES,
        edge_length_m=NO_LENGTHS, split=(7.0, 1.0, 2.0) if key in _SPEEDS else (6.0, 2.0, 2.0),
        meta={"unit": _UNITS[key]} if key in _UNITS else {},
    )  # fmt: skip
