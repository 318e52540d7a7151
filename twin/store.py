"""Append-only history of a running city, safe against kill -9.

    folder/
      open-00000003.cycles               the open segment: one checksummed block a cycle
      segments/00000002/<table>.parquet  closed segments, never changed again
      lock                               held by the one writer

A cycle is on the disk before the next one is taken. A full segment is written as Parquet (by DuckDB) beside its
place, synced, renamed into it, and only then is its block file deleted; on opening, a block file whose segment exists
is deleted and any other is packed. So every committed cycle is there exactly once at any moment.
"""

from __future__ import annotations

import fcntl
import shutil
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import IO

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from networks.errors import CityTwinError
from networks.sync import sync
from twin.blocks import BlockReader, BlockWriter
from twin.cycle_record import CycleRecord, to_tables

SEGMENTS = "segments"
CYCLES_PER_SEGMENT = 60
"""Two minutes at the default cycle: some 50 MB of blocks for a thousand edges, packed into a few MB of Parquet."""

MAX_BACKLOG = 60
"""Cycles kept in memory while the disk is full; then the oldest are given up."""

_PREFIX, _SUFFIX = "open-", ".cycles"


class StoreError(CityTwinError):
    """The history cannot be written: disk full, or folder in use."""


class Store:
    """The one writer of a history folder. Opening it repairs what a crash left; see `findings`."""

    def __init__(self, folder: Path, *, cycles_per_segment: int = CYCLES_PER_SEGMENT) -> None:
        self.folder = folder
        self.findings: list[str] = []
        self._cycles_per_segment = cycles_per_segment
        (folder / SEGMENTS).mkdir(parents=True, exist_ok=True)
        self._lock = _take_lock(folder)
        try:
            self._number, self._last_cycle = self._recover()
            self._blocks = self._open_segment()
        except BaseException:
            self._lock.close()
            raise
        self._forecast_made_at_s: float | None = None
        self._committer = ThreadPoolExecutor(1, thread_name_prefix="store-commit")
        self._packer = ThreadPoolExecutor(1, thread_name_prefix="store-pack")
        self._turn = Lock()
        self._backlog: deque[bytes] = deque(maxlen=MAX_BACKLOG)
        self._pending: Future[None] | None = None
        self._packing: Future[bool] | None = None

    @property
    def last_cycle(self) -> int:
        """Number of the newest cycle taken, 0 before the first."""
        return self._last_cycle

    def append_cycle(self, record: CycleRecord) -> int:
        """Take one cycle; it goes to the disk beside the caller. Returns the cycle's number.

        Raises StoreError when the cycle before could not be written. This one is taken all the same, and both are
        tried again with the next.
        """
        with self._turn:
            failure = self._await_commit()
            forecast = record.forecast
            is_new = forecast is not None and forecast.made_at_s != self._forecast_made_at_s
            cycle = self._last_cycle + 1
            tables = to_tables(cycle, record, with_forecast=is_new)
            self._pending = self._committer.submit(self._commit, tables)
            self._last_cycle = cycle
            if forecast is not None:
                self._forecast_made_at_s = forecast.made_at_s
        if failure is not None:
            raise StoreError(f"{self.folder}: cycle {cycle - 1} is not in the history yet: {failure}") from failure
        return cycle

    def flush(self) -> None:
        """Wait until every cycle taken is on the disk. Raises StoreError when some could not be written."""
        with self._turn:
            failure = self._await_commit()
            if self._backlog:
                self._pending = self._committer.submit(self._write_backlog)
                failure = self._await_commit()
        if failure is not None:
            lost = len(self._backlog)
            raise StoreError(f"{self.folder}: the last {lost} cycles are not in the history: {failure}") from failure

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
        """Write what is pending and pack the open segment."""
        try:
            self.flush()
            self._await_packing()
            self._blocks.close()
            pack(self.folder, self._blocks.path)
        finally:
            self._committer.shutdown(wait=True)
            self._packer.shutdown(wait=True)
            self._blocks.close()
            self._lock.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _await_commit(self) -> OSError | None:
        pending, self._pending = self._pending, None
        try:
            if pending is not None:
                pending.result()
        except OSError as error:
            return error
        return None

    def _commit(self, tables: Mapping[str, pa.Table]) -> None:
        self._backlog.append(_encode(tables))
        self._write_backlog()

    def _write_backlog(self) -> None:
        while self._backlog:
            self._blocks.append(self._backlog[0])
            self._backlog.popleft()
            self._in_segment += 1
            if self._in_segment >= self._cycles_per_segment:
                self._turn_page()

    def _turn_page(self) -> None:
        """Go on in a new segment and pack the full one beside it; where that fails, go on in the old one."""
        self._await_packing()
        full = self._blocks
        try:
            self._number += 1
            self._blocks = self._open_segment()
        except OSError as error:
            self._number -= 1
            self.findings.append(f"no new segment, going on in the old one: {error}")
            return
        full.close()
        self._packing = self._packer.submit(pack, self.folder, full.path)

    def _open_segment(self) -> BlockWriter:
        self._in_segment = 0
        return BlockWriter(self.folder / f"{_PREFIX}{self._number:08d}{_SUFFIX}")

    def _await_packing(self) -> None:
        """A segment that cannot be packed stays as it is; it is readable and the next opening tries again."""
        packing, self._packing = self._packing, None
        error = packing.exception() if packing is not None else None
        if error is not None:
            self.findings.append(f"a segment stays unpacked: {error}")

    def _recover(self) -> tuple[int, int]:
        """Finish or undo what a crash left. Returns the next segment's number and the last cycle."""
        for left in (self.folder / SEGMENTS).glob(".*"):
            shutil.rmtree(left)
        packed = {int(segment.name) for segment in list_segments(self.folder)}
        numbers = set(packed)
        for blocks in list_open(self.folder):
            number = segment_number(blocks)
            numbers.add(number)
            if number in packed:
                blocks.unlink()
                continue
            reader = BlockReader(blocks)
            for _ in reader:
                pass
            if reader.damage:
                self.findings.append(reader.damage)
                shutil.copyfile(blocks, blocks.with_name(f"damaged-{blocks.name}"))
            if pack(self.folder, blocks):
                self.findings.append(f"segment {number} was open: packed it")
        segments = list_segments(self.folder)
        return max(numbers, default=0) + 1, int(_newest(segments[-1], "cycle")) if segments else 0


def list_segments(folder: Path) -> list[Path]:
    """Closed segments, oldest first."""
    return sorted(path for path in (folder / SEGMENTS).glob("[0-9]*") if path.is_dir())


def list_open(folder: Path) -> list[Path]:
    """Block files of segments not packed yet, oldest first."""
    return sorted(folder.glob(f"{_PREFIX}*{_SUFFIX}"))


def segment_number(blocks: Path) -> int:
    return int(blocks.name.removeprefix(_PREFIX).removesuffix(_SUFFIX))


def read_cycles(reader: BlockReader) -> Iterator[dict[str, pa.Table]]:
    """The tables of each whole cycle in a block file."""
    for block in reader:
        tables = msgspec.msgpack.decode(block, type=dict[str, bytes])
        yield {name: pa.ipc.open_stream(rows).read_all() for name, rows in tables.items()}


def join_cycles(cycles: Iterator[dict[str, pa.Table]]) -> dict[str, pa.Table]:
    """The rows of several cycles, by table."""
    parts: defaultdict[str, list[pa.Table]] = defaultdict(list)
    for tables in cycles:
        for name, rows in tables.items():
            parts[name].append(rows)
    return {name: pa.concat_tables(rows) for name, rows in parts.items()}


def pack(folder: Path, blocks: Path) -> bool:
    """Turn a block file into a segment of Parquet files and delete it. False when it held no cycle."""
    tables = join_cycles(read_cycles(BlockReader(blocks)))
    if not tables:
        blocks.unlink()
        return False
    number = segment_number(blocks)
    draft = folder / SEGMENTS / f".part-{number:08d}"
    draft.mkdir()
    with duckdb.connect(config={"threads": 1}) as connection:
        for name, rows in tables.items():
            path = draft / f"{name}.parquet"
            connection.register("packing", rows)
            quoted = str(path).replace("'", "''")
            connection.execute(f"copy packing to '{quoted}' (format parquet, compression zstd)")
            connection.unregister("packing")
            sync(path)
    sync(draft)
    draft.rename(draft.with_name(f"{number:08d}"))
    sync(draft.parent)
    blocks.unlink()
    return True


def _encode(tables: Mapping[str, pa.Table]) -> bytes:
    encoded: dict[str, memoryview] = {}
    for name, rows in tables.items():
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, rows.schema) as stream:
            stream.write_table(rows)
        encoded[name] = memoryview(sink.getvalue())
    return msgspec.msgpack.encode(encoded)


def _take_lock(folder: Path) -> IO[bytes]:
    lock = (folder / "lock").open("ab")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise StoreError(f"{folder}: another process writes this history") from None
    return lock


def _newest(segment: Path, column: str) -> float:
    return float(max(pq.read_table(segment / "cycles.parquet", columns=[column])[column].to_pylist()))
