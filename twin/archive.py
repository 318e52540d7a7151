"""Reading a history folder: of a living store, after a crash, or from a copy.

Closed segments are read by DuckDB where they lie; of a segment still open every whole cycle is read into memory.
Nothing here changes the folder, and a writer is not held up.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from networks.errors import InputError, UnsafePlanError
from networks.graph import Network, Signal
from networks.state import History, TimeGrid
from signals.lamps import LampRecord
from signals.plan import ApprovedPlan, SignalPlan
from twin.blocks import BlockReader
from twin.cycle_record import TABLES, plan_from_text
from twin.store import join_cycles, list_open, list_segments, read_cycles, segment_number


class Approve(Protocol):
    """How plans are proven, `signals.safety.approve`: raises UnsafePlanError."""

    def __call__(
        self, plan: SignalPlan, signal: Signal, lamps: LampRecord | None, *, now_s: float, version: int
    ) -> ApprovedPlan: ...


@dataclass(frozen=True, slots=True)
class StoredDecision:
    """A plan that was approved, with everything that its proof stood on."""

    cycle: int
    junction: str
    version: int
    approved_at_s: float
    proof: str
    plan: SignalPlan
    lamps: LampRecord | None
    cost_veh_s: float  # expected over the horizon; NaN: no proposal behind it
    next_best_veh_s: float
    served_veh: float


@dataclass(frozen=True, slots=True)
class StoredRefusal:
    """A plan that was refused, and why."""

    cycle: int
    junction: str
    judged_at_s: float
    violations: tuple[str, ...]
    plan: SignalPlan
    lamps: LampRecord | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """A decision made again from the history."""

    junction: str
    approved_then: bool
    approved_now: bool
    proof_then: str
    proof_now: str
    detail: str  # violations found now

    @property
    def same(self) -> bool:
        return self.approved_then == self.approved_now and self.proof_then == self.proof_now


class Archive:
    """A history folder as SQL views, one a table of `twin.cycle_record.TABLES`."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise InputError(f"{folder}: no such history folder")
        self.findings: list[str] = []
        open_number, open_tables = self._read_open(folder)
        segments = [s for s in list_segments(folder) if int(s.name) not in open_number]
        self._connection = duckdb.connect(config={"threads": 1})
        for name, table in TABLES.items():
            rows = open_tables.get(name, table.schema.empty_table())
            self._connection.register(f"open_{name}", rows)
            files = [str(s / f"{name}.parquet") for s in segments if (s / f"{name}.parquet").exists()]
            packed = f"select * from read_parquet({files!r}) union all " if files else ""
            self._connection.execute(f"create view {name} as {packed}select * from open_{name}")

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def query(self, sql: str, parameters: Sequence[object] = ()) -> pa.Table:
        """Any SQL over the tables."""
        return self._connection.sql(sql, params=list(parameters)).to_arrow_table()

    def cycles(self) -> tuple[int, ...]:
        """Numbers of the committed cycles, ascending."""
        return tuple(self.query("select cycle from cycles order by cycle")["cycle"].to_pylist())

    def report(self, cycle: int) -> dict[str, Any]:
        """The report of one cycle. Raises InputError when it is not in the history."""
        found = self.query("select report from cycles where cycle = ?", [cycle])["report"].to_pylist()
        if not found:
            raise InputError(f"cycle {cycle} is not in the history")
        report: dict[str, Any] = json.loads(found[0])
        return report

    def decisions(
        self, *, junction: str | None = None, cycle: int | None = None, until_s: float = math.inf
    ) -> tuple[StoredDecision, ...]:
        """Approved plans in order of approval."""
        rows = self._rows("decisions", "approved_at_s, version", "approved_at_s", junction, cycle, until_s)
        return tuple(
            StoredDecision(
                cycle=row["cycle"],
                junction=row["junction"],
                version=row["version"],
                approved_at_s=row["approved_at_s"],
                proof=row["proof"],
                plan=plan_from_text(row["plan"]),
                lamps=_lamps_of(row),
                cost_veh_s=row["cost_veh_s"],
                next_best_veh_s=row["next_best_veh_s"],
                served_veh=row["served_veh"],
            )
            for row in rows
        )

    def refusals(
        self, *, junction: str | None = None, cycle: int | None = None, until_s: float = math.inf
    ) -> tuple[StoredRefusal, ...]:
        """Refused plans in order of judgement."""
        rows = self._rows("refusals", "judged_at_s, signal", "judged_at_s", junction, cycle, until_s)
        return tuple(
            StoredRefusal(
                cycle=row["cycle"],
                junction=row["junction"],
                judged_at_s=row["judged_at_s"],
                violations=tuple(row["violations"]),
                plan=plan_from_text(row["plan"]),
                lamps=_lamps_of(row),
            )
            for row in rows
        )

    def replay_decision(self, cycle: int, junction: str, network: Network, approve: Approve) -> tuple[Verdict, ...]:
        """Judge again every plan judged for a junction in a cycle, from the history alone.

        A plan refused because nothing was known of the lamps has nothing to be proven against: it is refused again.
        Raises InputError when nothing was judged there.
        """
        verdicts = [
            _judge(kept.plan, kept.lamps, kept.approved_at_s, kept.version, kept.proof, network, approve)
            for kept in self.decisions(junction=junction, cycle=cycle)
        ]
        verdicts += [
            _judge(kept.plan, kept.lamps, kept.judged_at_s, 0, "", network, approve)
            for kept in self.refusals(junction=junction, cycle=cycle)
        ]
        if not verdicts:
            raise InputError(f"nothing was decided for {junction} in cycle {cycle}")
        return tuple(verdicts)

    def history(self, until_s: float, *, from_s: float = -math.inf, step_s: float = 60.0) -> History:
        """Edge flow and speed as the twin knew them, averaged over the whole steps that end by `until_s`."""
        rows = self.query(
            "select now_s, edge_flow_vps, edge_flow_vps_valid, edge_speed_mps, edge_speed_mps_valid from states "
            "where now_s <= ? and now_s >= ? order by now_s, cycle",
            [until_s, from_s],
        )
        now_s = rows["now_s"].to_numpy()
        if not len(now_s):
            empty = np.zeros((0, 0))
            return History(TimeGrid(until_s, step_s, 0), empty, empty, empty.astype(np.bool_))
        start_s = math.floor(now_s[0] / step_s) * step_s
        end_s = min(until_s, (math.floor(now_s[-1] / step_s) + 1) * step_s)
        count = max(0, math.floor((end_s - start_s) / step_s))
        step = np.floor((now_s - start_s) / step_s).astype(np.int64)
        whole = step < count
        (flow, flow_valid), (speed, speed_valid) = (
            (_matrix(rows[name]), _matrix(rows[f"{name}_valid"]).astype(np.bool_))
            for name in ("edge_flow_vps", "edge_speed_mps")
        )
        valid = flow_valid & speed_valid
        samples = np.zeros((count, flow.shape[1]))
        sums = np.zeros((2, count, flow.shape[1]))
        np.add.at(samples, step[whole], valid[whole])
        np.add.at(sums[0], step[whole], np.where(valid, flow, 0.0)[whole])
        np.add.at(sums[1], step[whole], np.where(valid, speed, 0.0)[whole])
        mean = sums / np.maximum(samples, 1)
        return History(TimeGrid(start_s, step_s, count), mean[0], mean[1], samples > 0)

    def _rows(
        self, table: str, order: str, time: str, junction: str | None, cycle: int | None, until_s: float
    ) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.query(
            f"select * from {table} where {time} <= $1 and ($2 is null or junction = $2) "
            f"and ($3 is null or cycle = $3) order by cycle, {order}",
            [until_s, junction, cycle],
        ).to_pylist()
        return rows

    def _read_open(self, folder: Path) -> tuple[set[int], dict[str, pa.Table]]:
        """Segments not packed yet: their numbers and their rows. One packed and deleted meanwhile is left out."""
        numbers: set[int] = set()
        cycles: list[dict[str, pa.Table]] = []
        for blocks in list_open(folder):
            reader = BlockReader(blocks)
            with contextlib.suppress(FileNotFoundError):
                cycles += read_cycles(reader)
                numbers.add(segment_number(blocks))
            if reader.damage:
                self.findings.append(reader.damage)
        return numbers, join_cycles(iter(cycles))


def open_store(folder: Path) -> Archive:
    """The history in a folder, to read. Raises InputError when there is no such folder."""
    return Archive(folder)


def _judge(
    plan: SignalPlan,
    lamps: LampRecord | None,
    now_s: float,
    version: int,
    proof: str,
    network: Network,
    approve: Approve,
) -> Verdict:
    then = bool(proof)
    if not 0 <= plan.signal < len(network.signals):
        return Verdict(plan.signal_id, then, False, proof, "", f"no signal has index {plan.signal}")
    if lamps is None and not then:
        return Verdict(plan.signal_id, then, False, proof, "", "lamps unknown")
    try:
        approved = approve(plan, network.signals[plan.signal], lamps, now_s=now_s, version=version)
    except UnsafePlanError as unsafe:
        return Verdict(plan.signal_id, then, False, proof, "", str(unsafe))
    return Verdict(plan.signal_id, then, True, proof, approved.proof, "")


def _lamps_of(row: dict[str, Any]) -> LampRecord | None:
    if row["lamps_at_s"] is None:
        return None
    return LampRecord(
        row["lamps_at_s"],
        row["lamps_state"],
        np.array(row["lamps_since_s"], float),
        np.array(row["lamps_green_from_s"], float),
        np.array(row["lamps_green_until_s"], float),
    )


def _matrix(column: pa.ChunkedArray) -> NDArray[Any]:
    """A list column with rows of one length as (rows, length)."""
    whole = column.combine_chunks()
    values: NDArray[Any] = whole.flatten().to_numpy(zero_copy_only=False)
    return values.reshape(len(whole), -1)
