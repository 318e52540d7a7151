"""Append-only history of a running city, safe against kill -9.

    folder/
      open-00000003.duckdb (+ .wal)      the open segment: one transaction a cycle (.marks: log sizes at commits)
      segments/00000002/<table>.parquet  closed segments, never changed again
      lock                               held by the one writer

A cycle is committed, and synced to the disk, before the next one is taken. A full segment is written as Parquet
beside its place, synced, renamed into it, and only then is its database deleted; on opening, a database whose segment
exists is deleted and any other is packed. So every committed cycle is there exactly once at any moment.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import IO, NamedTuple

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from networks.errors import CityTwinError
from twin.cycle_record import TABLES, CycleRecord, to_tables

OPEN_PREFIX = "open-"
SEGMENTS = "segments"
CYCLES_PER_SEGMENT = 60
"""Five minutes at the default cycle; about 40 MB of log before it is packed into some 5 MB of Parquet."""

_SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "threads": 1,
    "memory_limit": "1GB",
    # A segment lives in memory and in its log until it is packed: copying it into the database file in between
    # would stall a commit for some hundred milliseconds and win nothing.
    "checkpoint_threshold": "16GB",
}


class StoreError(CityTwinError):
    """The history cannot be written: disk full, folder in use, or a database beyond repair."""


class _Segment(NamedTuple):
    number: int
    database: Path
    connection: duckdb.DuckDBPyConnection


class Store:
    """The one writer of a history folder. Opening it repairs what a crash left; see `findings`."""

    def __init__(self, folder: Path, *, cycles_per_segment: int = CYCLES_PER_SEGMENT) -> None:
        self.folder = folder
        self.findings: list[str] = []
        self._cycles_per_segment = cycles_per_segment
        (folder / SEGMENTS).mkdir(parents=True, exist_ok=True)
        self._lock = _take_lock(folder)
        try:
            last_segment, self._last_cycle = self._recover()
            self._segment = _new_segment(folder, last_segment + 1)
        except BaseException:
            self._lock.close()
            raise
        self._in_segment = 0
        self._broken = False
        self._forecast_made_at_s: float | None = None
        self._committer = ThreadPoolExecutor(1, thread_name_prefix="store-commit")
        self._packer = ThreadPoolExecutor(1, thread_name_prefix="store-pack")
        self._pending: Future[None] | None = None
        self._packing: Future[bool] | None = None

    @property
    def last_cycle(self) -> int:
        """Number of the newest cycle taken, 0 before the first."""
        return self._last_cycle

    def append_cycle(self, record: CycleRecord) -> int:
        """Take one cycle; its commit runs beside the caller. Returns the cycle's number.

        Raises StoreError when the cycle before could not be committed; that cycle is lost, this one is not taken and
        may be offered again.
        """
        self.flush()
        forecast = record.forecast
        is_new = forecast is not None and forecast.made_at_s != self._forecast_made_at_s
        cycle = self._last_cycle + 1
        tables = to_tables(cycle, record, with_forecast=is_new)
        self._pending = self._committer.submit(self._commit, tables)
        self._last_cycle = cycle
        if forecast is not None:
            self._forecast_made_at_s = forecast.made_at_s
        return cycle

    def flush(self) -> None:
        """Wait until every cycle taken is on the disk. Raises StoreError when the newest could not be committed."""
        pending, self._pending = self._pending, None
        if pending is not None:
            try:
                pending.result()
            except (duckdb.Error, OSError, pa.ArrowException) as error:
                self._forecast_made_at_s = None
                raise StoreError(f"{self.folder}: cycle {self._last_cycle} is not in the history: {error}") from error

    def forget_before(self, time_s: float) -> int:
        """Delete closed segments whose newest cycle is older than a time; returns how many."""
        forgotten = 0
        for segment in list_segments(self.folder):
            if _newest(segment, "now_s") < time_s:
                doomed = segment.with_name(f".gone-{segment.name}")
                segment.rename(doomed)
                shutil.rmtree(doomed)
                forgotten += 1
        return forgotten

    def close(self) -> None:
        """Commit what is pending and pack the open segment."""
        try:
            self.flush()
            self._await_packing()
            _pack(self.folder, self._segment)
        finally:
            self._committer.shutdown(wait=True)
            self._packer.shutdown(wait=True)
            self._segment.connection.close()
            self._lock.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _commit(self, tables: dict[str, pa.Table]) -> None:
        if self._broken:
            self._segment.connection.close()
            self._segment = self._segment._replace(connection=_connect(self._segment.database))
            self._broken = False
        connection = self._segment.connection
        self._broken = True  # DuckDB closes its eyes after a failed write: reopen unless this one ends well
        connection.begin()
        try:
            insert_rows(connection, tables)
            connection.commit()
        except BaseException:
            with contextlib.suppress(duckdb.Error):
                connection.rollback()
            raise
        self._broken = False
        with contextlib.suppress(OSError), marks_of(self._segment.database).open("a") as marks:
            marks.write(f"{log_of(self._segment.database).stat().st_size}\n")
        self._in_segment += 1
        if self._in_segment >= self._cycles_per_segment:
            self._turn_page()

    def _turn_page(self) -> None:
        """Go on in a new segment and pack the full one beside it."""
        self._await_packing()
        full = self._segment
        try:
            self._segment = _new_segment(self.folder, full.number + 1)
        except (duckdb.Error, OSError) as error:
            self.findings.append(f"no new segment, going on in the old one: {error}")
            return
        self._in_segment = 0
        self._packing = self._packer.submit(_pack, self.folder, full)

    def _await_packing(self) -> None:
        """A segment that cannot be packed stays as it is; it is readable and the next opening tries again."""
        packing, self._packing = self._packing, None
        error = packing.exception() if packing is not None else None
        if error is not None:
            self.findings.append(f"a segment stays unpacked: {error}")

    def _reopen(self, number: int, database: Path) -> _Segment:
        """A segment left open. Raises duckdb.Error when not even the start of its log can be read."""
        try:
            return _Segment(number, database, _connect(database))
        except duckdb.Error as error:
            shutil.copyfile(log_of(database), self.folder / f"damaged-{log_of(database).name}")
            for size in cut_log(database):
                with contextlib.suppress(duckdb.Error):
                    segment = _Segment(number, database, _connect(database))
                    self.findings.append(f"segment {number}: its log was damaged after byte {size}: {error}")
                    return segment
            raise

    def _recover(self) -> tuple[int, int]:
        """Finish or undo what a crash left. Returns the highest segment number and the last cycle."""
        for left in (*self.folder.glob(".new-*"), *(self.folder / SEGMENTS).glob(".*")):
            _remove(left)
        packed = {int(segment.name) for segment in list_segments(self.folder)}
        numbers = set(packed)
        for database in list_open(self.folder):
            number = segment_number(database)
            numbers.add(number)
            if number in packed:
                _delete_database(database)
                continue
            try:
                segment = self._reopen(number, database)
                if _pack(self.folder, segment):
                    self.findings.append(f"segment {number} was open: packed it")
            except duckdb.Error as error:
                aside = database.with_name(f"damaged-{database.name}")
                if log_of(database).exists():
                    log_of(database).rename(log_of(aside))
                database.rename(aside)
                self.findings.append(f"segment {number} cannot be read, left in {aside.name}: {error}")
        return max(numbers, default=0), _newest_cycle(self.folder)


def insert_rows(connection: duckdb.DuckDBPyConnection, tables: dict[str, pa.Table]) -> None:
    for name, rows in tables.items():
        connection.register("arriving", rows)
        connection.execute(f"insert into {name} select * from arriving")
        connection.unregister("arriving")


def list_segments(folder: Path) -> list[Path]:
    """Closed segments, oldest first."""
    return sorted(path for path in (folder / SEGMENTS).glob("[0-9]*") if path.is_dir())


def list_open(folder: Path) -> list[Path]:
    """Databases of segments not closed yet, oldest first."""
    return sorted(folder.glob(f"{OPEN_PREFIX}*.duckdb"))


def log_of(database: Path) -> Path:
    """DuckDB's write-ahead log: until a segment is packed, nearly all of it is there."""
    return database.with_name(database.name + ".wal")


def marks_of(database: Path) -> Path:
    """Sizes of the log after each commit, a line each."""
    return database.with_name(database.name + ".marks")


def cut_log(database: Path) -> Iterator[int]:
    """Cut a log with a garbled tail back to its commits, one after the other from the newest; yields the size left.

    A writer that is killed leaves at most an unfinished entry, which DuckDB passes over by itself; a power failure
    can leave zeros or old blocks there, which it refuses.
    """
    log, marks = log_of(database), marks_of(database)
    if not log.exists() or not marks.exists():
        return
    sizes = [int(line) for line in marks.read_text().split() if line.isdigit()]
    for size in sorted(sizes, reverse=True):
        if size < log.stat().st_size:
            os.truncate(log, size)
            yield size


def segment_number(database: Path) -> int:
    return int(database.stem.removeprefix(OPEN_PREFIX))


def _take_lock(folder: Path) -> IO[bytes]:
    lock = (folder / "lock").open("ab")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise StoreError(f"{folder}: another process writes this history") from None
    return lock


def _new_segment(folder: Path, number: int) -> _Segment:
    """An empty segment; it takes its name only once its tables are safe on the disk."""
    draft = folder / f".new-{number:08d}.duckdb"
    _delete_database(draft)
    with duckdb.connect(str(draft), config=_SETTINGS) as connection:
        for name, table in TABLES.items():
            connection.register("shape", table.schema.empty_table())
            connection.execute(f"create table {name} as select * from shape")
            connection.unregister("shape")
    database = folder / f"{OPEN_PREFIX}{number:08d}.duckdb"
    draft.rename(database)
    _sync(folder)
    return _Segment(number, database, _connect(database))


def _connect(database: Path) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(str(database), config=_SETTINGS)
    connection.execute("pragma disable_checkpoint_on_shutdown")
    return connection


def _pack(folder: Path, segment: _Segment) -> bool:
    """Turn a segment into Parquet files and delete its database. False when it held no cycle."""
    draft = folder / SEGMENTS / f".part-{segment.number:08d}"
    _remove(draft)
    draft.mkdir()
    connection = segment.connection
    (cycles,) = connection.execute("select count(*) from cycles").fetchone() or (0,)
    if not cycles:
        draft.rmdir()
        _discard(segment)
        return False
    for name in TABLES:
        (rows,) = connection.execute(f"select count(*) from {name}").fetchone() or (0,)
        if rows:
            path = draft / f"{name}.parquet"
            connection.execute(f"copy {name} to '{_quote(path)}' (format parquet, compression zstd)")
            _sync(path)
    _sync(draft)
    draft.rename(draft.with_name(f"{segment.number:08d}"))
    _sync(draft.parent)
    _discard(segment)
    return True


def _discard(segment: _Segment) -> None:
    segment.connection.close()
    _delete_database(segment.database)


def _delete_database(database: Path) -> None:
    """Only what is packed or empty goes. The log goes first, lest a new database of that name take it for its own."""
    log_of(database).unlink(missing_ok=True)
    marks_of(database).unlink(missing_ok=True)
    database.unlink(missing_ok=True)


def _newest_cycle(folder: Path) -> int:
    """The segment with the highest number holds the newest cycle."""
    segments = list_segments(folder)
    if not segments:
        return 0
    return int(_newest(segments[-1], "cycle"))


def _newest(segment: Path, column: str) -> float:
    return float(max(pq.read_table(segment / "cycles.parquet", columns=[column])[column].to_pylist()))


def _quote(path: Path) -> str:
    return str(path).replace("'", "''")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
