"""A recording on the disk: one folder a network, which others can read without us.

    meta.json             version, step, time zone, runs of rows, units and null rule by channel, target, licence ...
    nodes.parquet         id, lat, lon, and a column for each attribute; row k is column k of the series
    edges.parquet         from, to (ids of nodes), length_m
    series_<channel>.npy  (rows, places); mapped into memory, so that opening a folder reads none of it

Times are local wall time. Rows follow each other by the step within a run; between runs there is a gap. A folder is
written beside its place and renamed into it, so that it is there whole or not at all.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from forecasting.free_days import check_country
from forecasting.recording import Recording
from forecasting.series import DAY_S, Float32s, Rows
from forecasting.wall_time import find_zone
from networks.errors import InputError
from networks.graph import Floats
from networks.sync import sync

META, NODES, EDGES = "meta.json", "nodes.parquet", "edges.parquet"
_CHANNEL = r"[A-Za-z0-9_]+"  # a part of a file's name
_AROUND = ("lat", "lon")


def _wall_time(text: str) -> str:
    if datetime.fromisoformat(text).tzinfo is not None:
        raise ValueError("is local wall time and has no offset")
    return text


class _Run(BaseModel):
    """Rows that follow each other."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    start: Annotated[str, AfterValidator(_wall_time)]
    rows: int = Field(ge=1)


class _Channel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    unit: str = ""
    null: Literal["NaN"] | int | float = "NaN"  # what stands for a missing reading


class _Meta(BaseModel):
    """`meta.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    format: Literal["citytwin series"]
    version: Literal[1]
    name: str
    places: int = Field(ge=1)
    step_s: int = Field(ge=1, le=DAY_S)
    time_zone: str = ""
    runs: list[_Run] = Field(min_length=1)
    channels: dict[Annotated[str, Field(pattern=f"^{_CHANNEL}$")], _Channel] = Field(min_length=1)
    target: str
    split: tuple[float, float, float] = (6.0, 2.0, 2.0)
    country: str = ""
    licence: str = ""
    source: str = ""


def holds_series(folder: Path) -> bool:
    """Whether a folder is one of ours, whole or damaged."""
    return (folder / META).is_file()


def write_folder(recording: Recording, folder: Path) -> None:
    """Write a recording as a folder; one of ours that is there is replaced.

    Raises InputError when the recording is empty, or when something else is in the way.
    """
    if not len(recording.start_s) or not recording.places:
        raise InputError(f"{recording.name}: holds no readings")
    for channel in recording.channels:
        if not re.fullmatch(_CHANNEL, channel):
            raise InputError(f"{recording.name}: channel {channel!r}: letters, digits and _ only")
    if "id" in recording.attributes:
        raise InputError(f"{recording.name}: attribute 'id': {NODES} keeps the names of places there")
    target = folder.absolute()
    if target.exists() and not (target.is_dir() and (holds_series(target) or not any(target.iterdir()))):
        raise InputError(f"{folder}: is there already and holds no series; name another folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        _fill(draft, recording)
        draft.chmod(0o755)
        _put_in_place(draft, target)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def read_folder(folder: Path) -> Recording:
    """Open a folder; its series stay on the disk until they are used. Raises InputError naming file and field."""
    meta = _read_meta(folder / META)
    start_s = _times(folder / META, meta)
    places, attributes = _read_nodes(folder / NODES, meta)
    edges, lengths = _read_edges(folder / EDGES, places)
    channels = {
        name: _read_values(folder / f"series_{name}.npy", (len(start_s), len(places)), channel)
        for name, channel in meta.channels.items()
    }
    return Recording(
        name=meta.name, places=places, start_s=start_s, step_s=meta.step_s, channels=channels, target=meta.target,
        units={name: channel.unit for name, channel in meta.channels.items()}, edges=edges, edge_length_m=lengths,
        attributes=attributes, time_zone=meta.time_zone, country=meta.country, licence=meta.licence,
        source=meta.source, split=meta.split,
    )  # fmt: skip


def _fill(draft: Path, recording: Recording) -> None:
    none = np.full(len(recording.places), np.nan)
    nodes = {"id": pa.array(recording.places, pa.string())}
    nodes |= {name: pa.array(recording.attributes.get(name, none), from_pandas=True) for name in _AROUND}
    nodes |= {k: pa.array(v, from_pandas=True) for k, v in recording.attributes.items() if k not in _AROUND}
    pq.write_table(pa.table(nodes), draft / NODES)
    names = np.array(recording.places, dtype=object)
    ends = {end: pa.array(names[recording.edges[k]], pa.string()) for k, end in enumerate(("from", "to"))}
    length_m = pa.array(np.asarray(recording.edge_length_m, np.float64), from_pandas=True)
    pq.write_table(pa.table(ends | {"length_m": length_m}), draft / EDGES)
    for channel, values in recording.channels.items():
        np.save(draft / f"series_{channel}.npy", np.asarray(values, np.float32), allow_pickle=False)
    meta = _Meta(
        format="citytwin series", version=1, name=recording.name, places=len(recording.places),
        step_s=recording.step_s, time_zone=recording.time_zone, runs=_runs(recording.start_s, recording.step_s),
        channels={name: _Channel(unit=recording.units.get(name, "")) for name in recording.channels},
        target=recording.target, split=recording.split, country=recording.country, licence=recording.licence,
        source=recording.source,
    )  # fmt: skip
    (draft / META).write_text(json.dumps(meta.model_dump(), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    for path in (*draft.iterdir(), draft):
        sync(path)


def _put_in_place(draft: Path, target: Path) -> None:
    replaced = draft.with_name(f"{draft.name}.old")
    if target.exists():
        target.rename(replaced)
    try:
        draft.rename(target)
    except OSError:
        if replaced.exists():
            replaced.rename(target)
        raise
    shutil.rmtree(replaced, ignore_errors=True)
    sync(target.parent)


def _runs(start_s: Rows, step_s: int) -> list[_Run]:
    first = np.concatenate([[0], np.flatnonzero(np.diff(start_s) != step_s) + 1, [len(start_s)]])
    return [_Run(start=str(np.datetime64(int(start_s[a]), "s")), rows=int(b - a)) for a, b in pairwise(first)]


def _read_meta(path: Path) -> _Meta:
    try:
        meta = _Meta.model_validate_json(path.read_bytes())
    except OSError as defect:
        raise InputError(f"{path}: not readable: {defect.strerror or defect}") from defect
    except ValidationError as defect:
        first = defect.errors()[0]
        at = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{path}: {at + ': ' if at else ''}{first['msg']}") from defect
    if meta.target not in meta.channels:
        raise InputError(f"{path}: target: no channel is called {meta.target!r}")
    if not all(np.isfinite(meta.split)) or min(meta.split) < 0 or sum(meta.split) <= 0:
        raise InputError(f"{path}: split: {meta.split} are no three shares")
    try:
        if meta.time_zone:
            find_zone(meta.time_zone)
        check_country(meta.country)
    except InputError as defect:
        raise InputError(f"{path}: {defect}") from defect
    return meta


def _times(path: Path, meta: _Meta) -> Rows:
    parts = []
    end_s = None
    for k, run in enumerate(meta.runs):
        start_s = int(np.datetime64(run.start, "s").astype(np.int64))
        if end_s is not None and start_s < end_s:
            raise InputError(f"{path}: runs.{k}.start: {run.start} is before the end of the run before")
        parts.append(start_s + np.arange(run.rows, dtype=np.int64) * meta.step_s)
        end_s = start_s + run.rows * meta.step_s
    return np.concatenate(parts)


def _read_table(path: Path, needed: tuple[str, ...]) -> pa.Table:
    try:
        table = pq.read_table(path)
    except FileNotFoundError as defect:
        raise InputError(f"{path}: is missing") from defect
    except (pa.ArrowException, OSError) as defect:
        raise InputError(f"{path}: not readable as Parquet: {defect}") from defect
    for name in needed:
        if name not in table.column_names:
            raise InputError(f"{path}: has no column {name!r}")
    return table


def _text(path: Path, table: pa.Table, column: str) -> list[str]:
    if table[column].null_count:
        raise InputError(f"{path}: {column}: has empty rows")
    values: list[str] = table[column].cast(pa.string()).to_pylist()
    return values


def _read_nodes(path: Path, meta: _Meta) -> tuple[tuple[str, ...], dict[str, Floats]]:
    table = _read_table(path, ("id",))
    places = tuple(_text(path, table, "id"))
    if len(places) != meta.places:
        raise InputError(f"{path}: id: {len(places)} places, {META} says {meta.places}")
    if len(set(places)) < len(places):
        raise InputError(f"{path}: id: some place is there twice")
    attributes = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        kind = column.type
        if name == "id" or not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
            continue
        numbers = column.cast(pa.float64()).to_numpy()
        if name not in _AROUND or np.isfinite(numbers).any():
            attributes[name] = np.asarray(numbers, np.float64)
    return places, attributes


def _read_edges(path: Path, places: tuple[str, ...]) -> tuple[NDArray[np.int64], Float32s]:
    table = _read_table(path, ("from", "to", "length_m"))
    row = {place: k for k, place in enumerate(places)}
    ends = []
    for end in ("from", "to"):
        names = _text(path, table, end)
        unknown = next((name for name in names if name not in row), None)
        if unknown is not None:
            raise InputError(f"{path}: {end}: {unknown!r} is no node of {NODES}")
        ends.append([row[name] for name in names])
    try:
        length_m = table["length_m"].cast(pa.float32()).to_numpy()
    except pa.ArrowException as defect:
        raise InputError(f"{path}: length_m: no numbers: {defect}") from defect
    return np.array(ends, np.int64).reshape(2, -1), np.asarray(length_m, np.float32)


def _read_values(path: Path, shape: tuple[int, int], channel: _Channel) -> Float32s:
    try:
        values: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as defect:
        raise InputError(f"{path}: is missing") from defect
    except (OSError, ValueError, EOFError) as defect:
        raise InputError(f"{path}: not a whole .npy file: {defect}") from defect
    if values.shape != shape:
        raise InputError(f"{path}: shape is {values.shape}, {META} says {shape[0]} rows and {shape[1]} places")
    if values.dtype.kind not in "fiu":
        raise InputError(f"{path}: holds {values.dtype}, no numbers")
    if channel.null == "NaN":
        return values if values.dtype == np.float32 else values.astype(np.float32)
    return np.where(values == channel.null, np.nan, values).astype(np.float32)
